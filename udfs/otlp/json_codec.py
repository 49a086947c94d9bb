"""Decoding of OTLP/JSON: traces, logs and metrics in protobuf's JSON mapping with lower camel case and hexadecimal ids.

As the mapping specifies, a 64-bit integer is a string or a number, an enum is a number or a name (unknown names are 0),
NaN and infinities are strings, null means absent, and unknown fields are ignored. Functions raise
`msgspec.DecodeError`, `UnicodeDecodeError`, `RecursionError` (from msgspec), `BadContent` and `TooDeep`;
`udfs.otlp.decoder` turns them into `Rejected`.
"""

import re
from collections.abc import Iterable, Iterator
from math import inf, nan
from typing import Final

import msgspec
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status as ProtoStatus

from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.metrics import (
    ExponentialHistogramValue,
    MetricKind,
    MetricPoint,
    MetricValue,
    SummaryValue,
)
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import SpanColumns
from udfs.otlp import json_messages as schema
from udfs.otlp.resource import resource_of
from udfs.otlp.span_scanner_kernels import EXCEPTIONS_MAX
from udfs.otlp.values import (
    EXCEPTION,
    EXCEPTION_ATTRIBUTES,
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    BadContent,
    Plain,
    SpanRows,
    TooDeep,
    attributes_of,
    bytes_of,
    clean_kind,
    exception_of,
    hex_id,
    histogram,
    temporality,
    text_of,
)

__all__ = ["log_records", "metric_points", "span_columns"]

_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_DOUBLE: Final = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-fA-F]*", re.ASCII)
_SPECIAL: Final = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
_STATUS_ERROR: Final = 2
_NO_RECORDED_VALUE: Final = 1
_KINDS: Final[dict[str, int]] = dict(ProtoSpan.SpanKind.items())
_STATUS_CODES: Final[dict[str, int]] = dict(ProtoStatus.StatusCode.items())
_SEVERITIES: Final[dict[str, int]] = dict(SeverityNumber.items())
_TEMPORALITIES: Final[dict[str, int]] = dict(AggregationTemporality.items())
_METRIC_KINDS: Final[tuple[MetricKind, ...]] = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_TRACES: Final = msgspec.json.Decoder(schema.Traces)
_LOGS: Final = msgspec.json.Decoder(schema.Logs)
_METRICS: Final = msgspec.json.Decoder(schema.Metrics)
_INT32: Final = (-(2**31), 2**31 - 1)
_UINT32: Final = (0, 2**32 - 1)
_INT64: Final = (-(2**63), 2**63 - 1)
_UINT64: Final = (0, 2**64 - 1)


def _integer(value: schema.Integer, limits: tuple[int, int]) -> int:
    """Return an integer, 0 if it is absent. Raises BadContent outside of `limits`, inclusive."""
    if value is None:
        return 0
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):
            message = "found a string that is not a decimal integer where an integer is expected"
            raise BadContent(message)
        value = int(value)
    if not limits[0] <= value <= limits[1]:
        message = f"found an integer outside of its type's range {limits[0]}..{limits[1]}"
        raise BadContent(message)
    return value


def _double(value: schema.Double) -> float | None:
    """Return a double, None if it is absent."""
    if value is None or isinstance(value, float):
        return value
    if value in _SPECIAL:
        return _SPECIAL[value]
    if not _DOUBLE.fullmatch(value):
        message = "found a string that is not a number, NaN, Infinity or -Infinity where a double is expected"
        raise BadContent(message)
    number = float(value)
    if abs(number) == inf:
        message = "found a number too large for a double"
        raise BadContent(message)
    return number


def _number(value: schema.Double) -> float:
    return _double(value) or 0.0


def _enum(value: schema.Integer, names: dict[str, int]) -> int:
    """Return an enum given by number or name; unknown names are 0."""
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        return names.get(value, 0)
    return _integer(value, _INT32)


def _id(value: str | None, size: int) -> bytes:
    """Return the bytes of a hexadecimal id; b"" if it is absent or does not have `size` bytes."""
    if value is None or len(value) != 2 * size:
        return b""
    if not _HEX.fullmatch(value):
        message = "found a trace or span id that is not hexadecimal"
        raise BadContent(message)
    return bytes.fromhex(value)


def _plain(value: schema.AnyValue | None, depth_max: int) -> Plain:
    """Return an AnyValue as plain data. Raises TooDeep if arrays and objects nest deeper than depth_max."""
    if value is None:
        return None
    if value.array_value is not None or value.kvlist_value is not None:
        return _nested(value, depth_max)
    if value.string_value is not None:
        return value.string_value
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        return _integer(value.int_value, _INT64)
    if value.double_value is not None:
        return _double(value.double_value)
    return None if value.bytes_value is None else bytes_of(value.bytes_value)


def _nested(value: schema.AnyValue, depth_max: int) -> Plain:
    if depth_max == 0:
        raise TooDeep
    if value.array_value is not None:
        return [_plain(element, depth_max - 1) for element in value.array_value.values or ()]
    pairs = (value.kvlist_value and value.kvlist_value.values) or ()
    return {pair.key or "": _plain(pair.value, depth_max - 1) for pair in pairs}


def _texts(pairs: Iterable[schema.KeyValue] | None, depth_max: int) -> Iterator[tuple[str, str]]:
    return ((pair.key or "", text_of(_plain(pair.value, depth_max))) for pair in pairs or ())


def _resource(resource: schema.Resource | None, depth_max: int) -> Resource:
    return resource_of(dict(_texts(resource.attributes if resource else (), depth_max)))


def span_columns(data: bytes, depth_max: int) -> SpanColumns:
    """Decode a trace request. About 0.3 M spans/s."""
    rows = SpanRows()
    for group in _TRACES.decode(data).resource_spans or ():
        rows.resources.append(_resource(group.resource, depth_max))
        for scope in group.scope_spans or ():
            for span in scope.spans or ():
                _add_span(rows, span)
                _add_exceptions(rows, span.events or (), depth_max)
    return rows.columns()


def _add_exceptions(rows: SpanRows, events: Iterable[schema.Event], depth_max: int) -> None:
    """Add the exceptions among the events of the span that was added last."""
    named = [event for event in events if event.name == EXCEPTION]
    for event in named[:EXCEPTIONS_MAX]:
        pairs = (pair for pair in event.attributes or () if pair.key in EXCEPTION_ATTRIBUTES)
        time_ns = _integer(event.time_unix_nano, _UINT64)
        rows.exceptions.append(exception_of(len(rows.name) - 1, time_ns, _texts(pairs, depth_max)))
    rows.exceptions_beyond += len(named[EXCEPTIONS_MAX:])


def _add_span(rows: SpanRows, span: schema.Span) -> None:
    rows.resource.append(len(rows.resources) - 1)
    rows.add_name(span.name or "")
    rows.add_ids(
        _id(span.trace_id, TRACE_ID_BYTES), _id(span.span_id, SPAN_ID_BYTES), _id(span.parent_span_id, SPAN_ID_BYTES)
    )
    rows.start_ns.append(_integer(span.start_time_unix_nano, _UINT64))
    rows.end_ns.append(_integer(span.end_time_unix_nano, _UINT64))
    rows.kind.append(clean_kind(_enum(span.kind, _KINDS)))
    rows.error.append(span.status is not None and _enum(span.status.code, _STATUS_CODES) == _STATUS_ERROR)


def log_records(data: bytes, depth_max: int) -> tuple[LogRecord, ...]:
    """Decode a logs request."""
    records: list[LogRecord] = []
    for group in _LOGS.decode(data).resource_logs or ():
        resource = _resource(group.resource, depth_max)
        for scope in group.scope_logs or ():
            records += (_log(record, resource, depth_max) for record in scope.log_records or ())
    return tuple(records)


def _log(record: schema.LogRecord, resource: Resource, depth_max: int) -> LogRecord:
    observed_ns = _integer(record.observed_time_unix_nano, _UINT64)
    return LogRecord(
        resource=resource,
        time_ns=_integer(record.time_unix_nano, _UINT64) or observed_ns,
        severity_number=_enum(record.severity_number, _SEVERITIES),
        severity_text=record.severity_text or "",
        body=text_of(_plain(record.body, depth_max)),
        event_name=record.event_name or "",
        attributes=attributes_of(_texts(record.attributes, depth_max)),
        trace_id=hex_id(_id(record.trace_id, TRACE_ID_BYTES), TRACE_ID_BYTES),
        span_id=hex_id(_id(record.span_id, SPAN_ID_BYTES), SPAN_ID_BYTES),
    )


def metric_points(data: bytes, depth_max: int) -> tuple[MetricPoint, ...]:
    """Decode a metrics request."""
    points: list[MetricPoint] = []
    for group in _METRICS.decode(data).resource_metrics or ():
        resource = _resource(group.resource, depth_max)
        for scope in group.scope_metrics or ():
            for metric in scope.metrics or ():
                points += _points(metric, resource, depth_max)
    return tuple(points)


def _points(metric: schema.Metric, resource: Resource, depth_max: int) -> Iterator[MetricPoint]:
    kind = next((kind for kind in _METRIC_KINDS if getattr(metric, kind) is not None), None)
    if kind is None:
        return
    data: schema.Data = getattr(metric, kind)
    for point in data.data_points or ():
        recorded = not _integer(point.flags, _UINT32) & _NO_RECORDED_VALUE
        yield MetricPoint(
            resource=resource,
            name=metric.name or "",
            unit=metric.unit or "",
            kind=kind,
            temporality=temporality(_enum(data.aggregation_temporality, _TEMPORALITIES)),
            monotonic=bool(data.is_monotonic),
            start_ns=_integer(point.start_time_unix_nano, _UINT64),
            time_ns=_integer(point.time_unix_nano, _UINT64),
            attributes=attributes_of(_texts(point.attributes, depth_max)),
            value=_value(kind, point) if recorded else None,
        )


def _value(kind: MetricKind, point: schema.Point) -> MetricValue:
    match kind:
        case "gauge" | "sum":
            return _double(point.as_double) if point.as_int is None else _integer(point.as_int, _INT64)
        case "histogram":
            bounds = tuple(_number(bound) for bound in point.explicit_bounds or ())
            limits = _double(point.min), _double(point.max)
            count = _integer(point.count, _UINT64)
            return histogram(count, _double(point.sum), bounds, _counts(point.bucket_counts), limits)
        case "exponential_histogram":
            return _exponential(point)
        case "summary":
            pairs = tuple((_number(q.quantile), _number(q.value)) for q in point.quantile_values or ())
            return SummaryValue(_integer(point.count, _UINT64), _number(point.sum), pairs)


def _exponential(point: schema.Point) -> ExponentialHistogramValue:
    positive = point.positive or schema.Buckets()
    negative = point.negative or schema.Buckets()
    return ExponentialHistogramValue(
        count=_integer(point.count, _UINT64),
        sum=_double(point.sum),
        scale=_integer(point.scale, _INT32),
        zero_count=_integer(point.zero_count, _UINT64),
        zero_threshold=_number(point.zero_threshold),
        positive_offset=_integer(positive.offset, _INT32),
        positive_counts=_counts(positive.bucket_counts),
        negative_offset=_integer(negative.offset, _INT32),
        negative_counts=_counts(negative.bucket_counts),
        min=_double(point.min),
        max=_double(point.max),
    )


def _counts(values: Iterable[int | str] | None) -> tuple[int, ...]:
    return tuple(_integer(value, _UINT64) for value in values or ())
