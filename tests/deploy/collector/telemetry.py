"""Requests of OTLP with secrets, with ids of users, and with records that are larger than a message can be."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRETS: Final = ("hunter2", "jo@shop.example", "4111111111111111", "AKIAABCDEFGHIJKLMNOP", "abc.def-token", "cGF5")
SMALL: Final = 200  # records on both sides of each large one
EVENTS: Final = 300
FRACTION: Final = 0.4111111111111111

Value: TypeAlias = "str | int | float | list[Value] | dict[str, Value]"


def add(attributes: Any, given: Mapping[str, Value]) -> None:
    for name, value in given.items():
        attributes.add(key=name).value.CopyFrom(any_value(value))


def any_value(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    built = AnyValue()
    if isinstance(value, list):
        built.array_value.values.extend(map(any_value, value))
    else:
        add(built.kvlist_value.values, value)
    return built


# Forms in which programs write secrets into lines: also cut ones, and JSON in a text.
SECRET_LINES: Final = (
    'form 1 {"cookie":"sid=hunter2; x=y',
    r"form 2 {\"password\":\"hunter2\"}",
    "form 3 POSTGRES_PASSWORD=hunter2 stays",
    "form 4 GET /x?access_token=hunter2&a=stays",
    "form 5 Cookie: a=hunter2; b=hunter2",
    "form 6 Authorization: Digest username=hunter2, nonce=hunter2",
)


def requests(now_ns: int) -> Iterator[tuple[str, Any]]:
    """Yield the signal and the request of what services send."""
    yield "traces", _secrets_in_spans(now_ns)
    yield "logs", _long_lines(now_ns)
    yield "metrics", _points_of_users(now_ns)
    yield "traces", _large_spans(now_ns)
    yield "logs", _large_records(now_ns)
    yield "metrics", _large_point(now_ns)


def _secrets_in_spans(now_ns: int) -> ExportTraceServiceRequest:
    traces = ExportTraceServiceRequest()
    part = traces.resource_spans.add()
    add(part.resource.attributes, {"service.name": "cart", "deployment.environment": "prod"})
    add(part.resource.attributes, {"process.command_args": ["--password", "hunter2"]})
    spans = part.scope_spans.add().spans
    times = {"start_time_unix_nano": now_ns - 10**6, "end_time_unix_nano": now_ns}
    span = spans.add(trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN), name="pay by jo@shop.example", **times)
    span.status.code, span.status.message = Status.STATUS_CODE_ERROR, "denied: token=hunter2"
    add(
        span.attributes,
        {
            "user.id": "17",
            "http.request.header.authorization": "Bearer abc.def-token",
            "url.full": "http://jo:hunter2@h/x",
            "cards": ["none", "4111111111111111"],
            "headers": {"Cookie": ["sid=hunter2"], "n": {"x-authorization": "hunter2"}},
            "lines": ['{"x-token": "hunter2"}'],
            "settings": {"db": {"password": {"value": "hunter2", "of": {"user": "hunter2"}}}, "k": "v"},
            "jar": {"cookie": ["a]b", "sid=hunter2"], "secret": 4711},
            "card": 4111111111111111,
            "share": FRACTION,
            "names": ["a", "b"],
        },
    )
    failed = spans.add(trace_id=bytes.fromhex(TRACE), span_id=b"failed-1", name="fail", **times)
    message = "key AKIAABCDEFGHIJKLMNOP, Basic cGF5OmFiYy5kZWYtdG9rZW4=, no basic configuration"
    add(failed.events.add(name="exception").attributes, {"exception.message": message})
    return traces


def _long_lines(now_ns: int) -> ExportLogsServiceRequest:
    logs = ExportLogsServiceRequest()
    part = logs.resource_logs.add()
    add(part.resource.attributes, {"service.name": "cart", "user.id": "17"})
    scope = part.scope_logs.add()
    bulk = [f"bulk {number} " + "x" * 100_000 for number in range(30)]
    for line in (*bulk, "huge " + "ü" * 1_000_000, "login of jo@shop.example", *SECRET_LINES):
        scope.log_records.add(time_unix_nano=now_ns, severity_number=9).body.string_value = line
    return logs


def _points_of_users(now_ns: int) -> ExportMetricsServiceRequest:
    metrics = ExportMetricsServiceRequest()
    part = metrics.resource_metrics.add()
    add(part.resource.attributes, {"service.name": "cart", "enduser.id": "17", "process.pid": "4711"})
    metric = part.scope_metrics.add().metrics.add(name="orders")
    metric.sum.aggregation_temporality, metric.sum.is_monotonic = 2, True
    for user in ("17", "18"):
        point = metric.sum.data_points.add(start_time_unix_nano=now_ns - 10**9, time_unix_nano=now_ns, as_int=3)
        add(point.attributes, {"user_id": user, "requestId": user, "http.route": "/pay"})
    return metrics


def _large_spans(now_ns: int) -> ExportTraceServiceRequest:
    """Return 2.4 MB of exceptions in a span, 4.8 MB of attributes in another, and 1.6 MB in a resource of its own."""
    traces = ExportTraceServiceRequest()
    part = traces.resource_spans.add()
    add(part.resource.attributes, {"service.name": "large"})
    spans = part.scope_spans.add().spans

    def span(number: int, name: str) -> Any:
        ids = {"trace_id": number.to_bytes(16), "span_id": number.to_bytes(8)}
        return spans.add(name=name, start_time_unix_nano=now_ns - 10**6, end_time_unix_nano=now_ns, **ids)

    for number in range(1, SMALL + 1):
        span(number, "small")
    events = span(SMALL + 1, "retries").events
    for attempt in range(EVENTS):
        stack = {"exception.type": "Refused", "exception.stacktrace": f"{attempt} " + "s" * 8_000}
        add(events.add(name="exception", time_unix_nano=now_ns).attributes, stack)
    add(span(SMALL + 2, "attributes").attributes, {f"key {number}": "v" * 16_000 for number in range(300)})
    for number in range(SMALL + 3, 2 * SMALL + 3):
        span(number, "small")
    of_large_resource = traces.resource_spans.add()
    add(of_large_resource.resource.attributes, {"service.name": "of-host", "list": ["x" * 16_000] * 100})
    of_large_resource.scope_spans.add().spans.add(trace_id=b"r" * 16, span_id=b"r" * 8, name="of a large resource")
    return traces


def _large_records(now_ns: int) -> ExportLogsServiceRequest:
    """Return 3 MB as the map of a body, and 3 MB as the list of an attribute."""
    logs = ExportLogsServiceRequest()
    part = logs.resource_logs.add()
    add(part.resource.attributes, {"service.name": "large"})
    scope = part.scope_logs.add()
    small: list[tuple[Value, dict[str, Value]]] = [("small", {})] * SMALL
    fields: dict[str, Value] = {f"field {number}": "v" * 1_000 for number in range(3_000)}
    list_of_maps: dict[str, Value] = {"items": [{"item": "v" * 1_000}] * 3_000}
    for body, attributes in (*small, (fields, {}), ("with a list", list_of_maps), *small):
        record = scope.log_records.add(time_unix_nano=now_ns, severity_number=9)
        record.body.CopyFrom(any_value(body))
        add(record.attributes, attributes)
    return logs


def _large_point(now_ns: int) -> ExportMetricsServiceRequest:
    """Return 60,001 buckets and 1,000 exemplars of 1 kB."""
    metrics = ExportMetricsServiceRequest()
    part = metrics.resource_metrics.add()
    add(part.resource.attributes, {"service.name": "large"})
    metric = part.scope_metrics.add().metrics.add(name="sizes", description="d" * 100_000)
    metric.histogram.aggregation_temporality = 2
    times = {"start_time_unix_nano": now_ns - 10**9, "time_unix_nano": now_ns}
    counts, bounds = [1] * 60_001, [float(bound) for bound in range(60_000)]
    point = metric.histogram.data_points.add(**times, count=60_001, bucket_counts=counts, explicit_bounds=bounds)
    for _ in range(1_000):
        exemplar = point.exemplars.add(time_unix_nano=now_ns, as_double=1.0, trace_id=bytes.fromhex(TRACE))
        add(exemplar.filtered_attributes, {"user": "hunter2" + "x" * 1_000})
    return metrics
