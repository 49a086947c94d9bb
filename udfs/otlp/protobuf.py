"""Decode OTLP/protobuf through upb, the C parser of `protobuf`: logs, metrics, and spans as the scanner's reference.

Functions raise `DecodeError` (bytes that upb refuses) and `TooDeep`; `udfs.otlp.decoder` turns them into `Rejected`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf 5 has no py.typed
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.metrics import (
    ExponentialHistogramValue,
    MetricKind,
    MetricPoint,
    MetricValue,
    SummaryValue,
)
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import SpanColumns, SpanException
from udfs.otlp.resource import resource_of
from udfs.otlp.span_scanner_kernels import EXCEPTIONS_MAX
from udfs.otlp.values import (
    EXCEPTION,
    EXCEPTION_ATTRIBUTES,
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    Plain,
    SpanRows,
    TooDeep,
    attributes_of,
    clean_kind,
    exception_of,
    hex_id,
    histogram,
    temporality,
    text_of,
)

__all__ = ["DecodeError", "exceptions_from", "log_records", "metric_points", "resource_from", "span_columns"]

_STATUS_ERROR: Final = 2
_NO_RECORDED_VALUE: Final = 1
# Tags of the way to an event.
_RESOURCE_SPANS: Final = 1 << 3 | 2
_SCOPE_SPANS: Final = 2 << 3 | 2
_SPANS: Final = 2 << 3 | 2
_EVENTS: Final = 11 << 3 | 2

_Histogram = metrics_pb2.HistogramDataPoint | metrics_pb2.ExponentialHistogramDataPoint
_Point = (
    metrics_pb2.NumberDataPoint
    | metrics_pb2.HistogramDataPoint
    | metrics_pb2.ExponentialHistogramDataPoint
    | metrics_pb2.SummaryDataPoint
)


def plain_of(value: AnyValue, depth_max: int) -> Plain:
    """Return an AnyValue as plain data. Raises TooDeep where arrays and objects nest deeper than depth_max."""
    which = value.WhichOneof("value")
    if which is None or which == "string_value_strindex":  # the latter belongs to profiles, its table is not here
        return None
    if which not in ("array_value", "kvlist_value"):
        scalar: Plain = getattr(value, which)
        return scalar
    if depth_max == 0:
        raise TooDeep
    if which == "array_value":
        return [plain_of(element, depth_max - 1) for element in value.array_value.values]
    return {pair.key: plain_of(pair.value, depth_max - 1) for pair in value.kvlist_value.values}


def _texts(pairs: Iterable[KeyValue], depth_max: int) -> Iterator[tuple[str, str]]:
    return ((pair.key, text_of(plain_of(pair.value, depth_max))) for pair in pairs)


def resource_from(parts: Iterable[bytes], depth_max: int) -> Resource:
    """Read the `resource` fields of one group, which protobuf merges. Each must be whole by itself."""
    message = resource_pb2.Resource()
    for part in parts:
        message.MergeFromString(part)
    return _resource(message, depth_max)


def _resource(message: resource_pb2.Resource, depth_max: int) -> Resource:
    return resource_of(dict(_texts(message.attributes, depth_max)))


def span_columns(data: bytes, depth_max: int) -> SpanColumns:
    """Decode a trace request. About 0.7 M spans/s."""
    rows = SpanRows()
    for group in ExportTraceServiceRequest.FromString(data).resource_spans:
        rows.resources.append(_resource(group.resource, depth_max))
        for scope in group.scope_spans:
            for span in scope.spans:
                _add_span(rows, span)
                _add_exceptions(rows, span.events, depth_max)
    return rows.columns()


def _add_exceptions(rows: SpanRows, events: Iterable[Span.Event], depth_max: int) -> None:
    """Those among the events of the span that was added last."""
    named = [event for event in events if event.name == EXCEPTION]
    rows.exceptions += (_exception(event, len(rows.name) - 1, depth_max) for event in named[:EXCEPTIONS_MAX])
    rows.exceptions_beyond += len(named[EXCEPTIONS_MAX:])


def _exception(event: Span.Event, span: int, depth_max: int) -> SpanException:
    pairs = (pair for pair in event.attributes if pair.key in EXCEPTION_ATTRIBUTES)
    return exception_of(span, event.time_unix_nano, _texts(pairs, depth_max))


def exceptions_from(events: Sequence[tuple[int, bytes]], depth_max: int) -> tuple[SpanException, ...]:
    """Read events named `exception`, at least one, each with its span's place. About 0.2 M/s of 1.4 kB.

    They are read as deep in a request as they stood, so that upb counts the levels inside them alike.
    """
    data = b"".join(_sized(_EVENTS, event) for _, event in events)
    for tag in (_SPANS, _SCOPE_SPANS, _RESOURCE_SPANS):
        data = _sized(tag, data)
    (group,) = ExportTraceServiceRequest.FromString(data).resource_spans
    found = group.scope_spans[0].spans[0].events
    return tuple(_exception(event, span, depth_max) for (span, _), event in zip(events, found, strict=True))


def _sized(tag: int, content: bytes) -> bytes:
    """Write a length-delimited field, its length in five bytes, which is the most that upb reads."""
    size = len(content)
    return bytes((tag, *(size >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)), size >> 28)) + content


def _add_span(rows: SpanRows, span: Span) -> None:
    rows.resource.append(len(rows.resources) - 1)
    rows.add_name(span.name)
    rows.add_ids(span.trace_id, span.span_id, span.parent_span_id)
    rows.start_ns.append(span.start_time_unix_nano)
    rows.end_ns.append(span.end_time_unix_nano)
    rows.kind.append(clean_kind(span.kind))
    rows.error.append(span.status.code == _STATUS_ERROR)


def log_records(data: bytes, depth_max: int) -> tuple[LogRecord, ...]:
    """Decode a logs request."""
    records: list[LogRecord] = []
    for group in ExportLogsServiceRequest.FromString(data).resource_logs:
        resource = _resource(group.resource, depth_max)
        records += (_log(record, resource, depth_max) for scope in group.scope_logs for record in scope.log_records)
    return tuple(records)


def _log(record: logs_pb2.LogRecord, resource: Resource, depth_max: int) -> LogRecord:
    return LogRecord(
        resource=resource,
        time_ns=record.time_unix_nano or record.observed_time_unix_nano,
        severity_number=record.severity_number,
        severity_text=record.severity_text,
        body=text_of(plain_of(record.body, depth_max)),
        event_name=record.event_name,
        attributes=attributes_of(_texts(record.attributes, depth_max)),
        trace_id=hex_id(record.trace_id, TRACE_ID_BYTES),
        span_id=hex_id(record.span_id, SPAN_ID_BYTES),
    )


def metric_points(data: bytes, depth_max: int) -> tuple[MetricPoint, ...]:
    """Decode a metrics request."""
    points: list[MetricPoint] = []
    for group in ExportMetricsServiceRequest.FromString(data).resource_metrics:
        resource = _resource(group.resource, depth_max)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                points += _points(metric, resource, depth_max)
    return tuple(points)


def _points(metric: metrics_pb2.Metric, resource: Resource, depth_max: int) -> Iterator[MetricPoint]:
    kind: MetricKind | None = metric.WhichOneof("data")
    if kind is None:
        return
    data = getattr(metric, kind)
    # Gauges and summaries have neither field.
    aggregation = temporality(getattr(data, "aggregation_temporality", 0))
    monotonic = getattr(data, "is_monotonic", False)
    for point in data.data_points:
        yield MetricPoint(
            resource=resource,
            name=metric.name,
            unit=metric.unit,
            kind=kind,
            temporality=aggregation,
            monotonic=monotonic,
            start_ns=point.start_time_unix_nano,
            time_ns=point.time_unix_nano,
            attributes=attributes_of(_texts(point.attributes, depth_max)),
            value=None if point.flags & _NO_RECORDED_VALUE else _value(point),
        )


def _value(point: _Point) -> MetricValue:
    match point:
        case metrics_pb2.NumberDataPoint():
            which = point.WhichOneof("value")
            number: MetricValue = getattr(point, which) if which else None
            return number
        case metrics_pb2.HistogramDataPoint():
            limits = _optional(point, "min"), _optional(point, "max")
            return histogram(point.count, _optional(point, "sum"), point.explicit_bounds, point.bucket_counts, limits)
        case metrics_pb2.ExponentialHistogramDataPoint():
            return _exponential(point)
        case metrics_pb2.SummaryDataPoint():
            pairs = tuple((q.quantile, q.value) for q in point.quantile_values)
            return SummaryValue(point.count, point.sum, pairs)


def _exponential(point: metrics_pb2.ExponentialHistogramDataPoint) -> ExponentialHistogramValue:
    return ExponentialHistogramValue(
        count=point.count,
        sum=_optional(point, "sum"),
        scale=point.scale,
        zero_count=point.zero_count,
        zero_threshold=point.zero_threshold,
        positive_offset=point.positive.offset,
        positive_counts=tuple(point.positive.bucket_counts),
        negative_offset=point.negative.offset,
        negative_counts=tuple(point.negative.bucket_counts),
        min=_optional(point, "min"),
        max=_optional(point, "max"),
    )


def _optional(point: _Histogram, name: Literal["sum", "min", "max"]) -> float | None:
    """Return an optional double of a point, None where it is absent."""
    value: float | None = getattr(point, name) if point.HasField(name) else None
    return value
