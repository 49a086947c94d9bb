"""Messages of OTLP/JSON, as far as they are read: msgspec decodes JSON bytes into these structs.

Fields are named as in opentelemetry-proto's .proto files, in lower camel case on the wire. Each may be absent or null,
as protobuf's JSON mapping allows; msgspec skips unknown fields. Spans have only the fields that the folds use.
"""

import msgspec

# 64-bit integers are strings, smaller ones are numbers; both forms are accepted everywhere. Enums are numbers or names.
Integer = int | str | None
# NaN and the infinities are strings.
Double = float | str | None


class Message(msgspec.Struct, rename="camel", gc=False):
    """Base of all messages. Fields as in the .proto files; all may be absent or null."""


class AnyValue(Message):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Integer = None
    double_value: Double = None
    array_value: "ArrayValue | None" = None
    kvlist_value: "KeyValueList | None" = None
    bytes_value: str | None = None


class ArrayValue(Message):
    values: list[AnyValue] | None = None


class KeyValue(Message):
    key: str | None = None
    value: AnyValue | None = None


class KeyValueList(Message):
    values: list[KeyValue] | None = None


class Resource(Message):
    attributes: list[KeyValue] | None = None


class Status(Message):
    code: Integer = None


class Event(Message):
    time_unix_nano: Integer = None
    name: str | None = None
    attributes: list[KeyValue] | None = None


class Span(Message):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    kind: Integer = None
    start_time_unix_nano: Integer = None
    end_time_unix_nano: Integer = None
    events: list[Event] | None = None
    status: Status | None = None


class ScopeSpans(Message):
    spans: list[Span] | None = None


class ResourceSpans(Message):
    resource: Resource | None = None
    scope_spans: list[ScopeSpans] | None = None


class Traces(Message):
    resource_spans: list[ResourceSpans] | None = None


class LogRecord(Message):
    time_unix_nano: Integer = None
    observed_time_unix_nano: Integer = None
    severity_number: Integer = None
    severity_text: str | None = None
    body: AnyValue | None = None
    attributes: list[KeyValue] | None = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None


class ScopeLogs(Message):
    log_records: list[LogRecord] | None = None


class ResourceLogs(Message):
    resource: Resource | None = None
    scope_logs: list[ScopeLogs] | None = None


class Logs(Message):
    resource_logs: list[ResourceLogs] | None = None


class Buckets(Message):
    offset: Integer = None
    bucket_counts: list[int | str] | None = None


class Quantile(Message):
    quantile: Double = None
    value: Double = None


class Point(Message):
    """Union of all point types; the kind of the metric decides which fields are read."""

    attributes: list[KeyValue] | None = None
    start_time_unix_nano: Integer = None
    time_unix_nano: Integer = None
    flags: Integer = None
    as_double: Double = None
    as_int: Integer = None
    count: Integer = None
    sum: Double = None
    min: Double = None
    max: Double = None
    bucket_counts: list[int | str] | None = None
    explicit_bounds: list[float | str] | None = None
    scale: Integer = None
    zero_count: Integer = None
    zero_threshold: Double = None
    positive: Buckets | None = None
    negative: Buckets | None = None
    quantile_values: list[Quantile] | None = None


class Data(Message):
    data_points: list[Point] | None = None
    aggregation_temporality: Integer = None
    is_monotonic: bool | None = None


class Metric(Message):
    name: str | None = None
    unit: str | None = None
    gauge: Data | None = None
    sum: Data | None = None
    histogram: Data | None = None
    exponential_histogram: Data | None = None
    summary: Data | None = None


class ScopeMetrics(Message):
    metrics: list[Metric] | None = None


class ResourceMetrics(Message):
    resource: Resource | None = None
    scope_metrics: list[ScopeMetrics] | None = None


class Metrics(Message):
    resource_metrics: list[ResourceMetrics] | None = None
