"""Decoding of OTLP/protobuf with upb, the C parser of `protobuf`: logs, metrics, resources, exceptions of spans."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from math import isfinite
from typing import Any, Final, Literal, TypeVar

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf 5 has no py.typed
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.metrics import (
    ExponentialHistogramValue,
    HistogramValue,
    MetricKind,
    MetricPoint,
    MetricValue,
    SummaryValue,
    Temporality,
)
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import SpanException
from udfs.otlp.refused import Refused
from udfs.otlp.repair import repair_protobuf
from udfs.otlp.resource import VALUE_CHARS_MAX, resource_of

__all__ = ["EXCEPTION_ATTRIBUTES", "DecodeError", "ProtobufReader", "hex_id"]

EXCEPTION_ATTRIBUTES: Final = ("exception.type", "exception.message", "exception.stacktrace")
_NO_RECORDED_VALUE: Final = 1
_TEMPORALITIES: Final[dict[int, Temporality]] = {1: "delta", 2: "cumulative"}

# An AnyValue as plain data.
_Plain = None | bool | int | float | str | bytes | list["_Plain"] | dict[str, "_Plain"]
_Message = TypeVar("_Message")
_Histogram = metrics_pb2.HistogramDataPoint | metrics_pb2.ExponentialHistogramDataPoint
_Point = (
    metrics_pb2.NumberDataPoint
    | metrics_pb2.HistogramDataPoint
    | metrics_pb2.ExponentialHistogramDataPoint
    | metrics_pb2.SummaryDataPoint
)


class ProtobufReader:
    """A reader of messages that upb parses.

    Raises `DecodeError` for bytes that upb rejects, including messages nested over 100 deep, and Refused for a value
    with more than depth_max nested arrays and objects. Texts that are not UTF-8 are repaired.

    texts_repaired: number of texts repaired so far.
    """

    def __init__(self, depth_max: int, resource_attributes: Iterable[str] = ()) -> None:
        """resource_attributes: names, ascending, of attributes that a `Resource` keeps."""
        self.texts_repaired = 0
        self._depth_max = depth_max
        self._kept = tuple(resource_attributes)

    def resource(self, parts: Iterable[bytes]) -> Resource:
        """Decode the `resource` fields of one group, which protobuf merges. Each must be complete by itself."""
        message = resource_pb2.Resource()
        for part in parts:
            message.MergeFrom(self._parsed(resource_pb2.Resource, part))
        return self._resource(message)

    def exception(self, data: bytes, span: int) -> SpanException:
        """Decode an event named `exception`; of several attributes with one name the last is kept.

        span: index of its span in the columns. About 0.2 M/s of 1.4 kB.
        """
        attributes = self._parsed(Span.Event, data).attributes
        found = dict(self._texts(pair for pair in attributes if pair.key in EXCEPTION_ATTRIBUTES))
        return SpanException(span, *(found.get(name, "") for name in EXCEPTION_ATTRIBUTES))

    def attribute(self, data: bytes) -> str:
        """Return the value of a KeyValue, at most VALUE_CHARS_MAX characters; "" where it cannot be read."""
        try:
            ((_, text),) = self._texts((self._parsed(KeyValue, data),))
        except (DecodeError, Refused):
            return ""
        return text[:VALUE_CHARS_MAX]

    def log_records(self, data: bytes) -> tuple[LogRecord, ...]:
        """Decode a logs request."""
        records: list[LogRecord] = []
        for group in self._parsed(ExportLogsServiceRequest, data).resource_logs:
            resource = self._resource(group.resource)
            records += (self._log(record, resource) for scope in group.scope_logs for record in scope.log_records)
        return tuple(records)

    def metric_points(self, data: bytes) -> tuple[MetricPoint, ...]:
        """Decode a metrics request."""
        points: list[MetricPoint] = []
        for group in self._parsed(ExportMetricsServiceRequest, data).resource_metrics:
            resource = self._resource(group.resource)
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    points += self._points(metric, resource)
        return tuple(points)

    def _parsed(self, kind: type[_Message], data: bytes) -> _Message:
        """Parse a message; if upb rejects it for a text that is not UTF-8, parse the repaired one."""
        message: Any = kind
        try:
            parsed: _Message = message.FromString(data)
        except DecodeError:
            repaired = repair_protobuf(data, message.DESCRIPTOR)
            if not repaired.texts:
                raise
            parsed = message.FromString(repaired.data)
            self.texts_repaired += repaired.texts
        return parsed

    def _resource(self, message: resource_pb2.Resource) -> Resource:
        return resource_of(dict(self._texts(message.attributes)), self._kept)

    def _log(self, record: logs_pb2.LogRecord, resource: Resource) -> LogRecord:
        return LogRecord(
            resource=resource,
            time_ns=record.time_unix_nano or record.observed_time_unix_nano,
            severity_number=record.severity_number,
            severity_text=record.severity_text,
            body=_text(_plain(record.body, self._depth_max)),
            event_name=record.event_name,
            attributes=self._attributes(record.attributes),
            trace_id=hex_id(record.trace_id),
        )

    def _points(self, metric: metrics_pb2.Metric, resource: Resource) -> Iterator[MetricPoint]:
        kind: MetricKind | None = metric.WhichOneof("data")
        if kind is None:
            return
        data = getattr(metric, kind)
        for point in data.data_points:
            yield MetricPoint(
                resource=resource,
                name=metric.name,
                unit=metric.unit,
                kind=kind,
                # Gauges and summaries have neither field.
                temporality=_TEMPORALITIES.get(getattr(data, "aggregation_temporality", 0), "unspecified"),
                monotonic=getattr(data, "is_monotonic", False),
                start_ns=point.start_time_unix_nano,
                time_ns=point.time_unix_nano,
                attributes=self._attributes(point.attributes),
                value=None if point.flags & _NO_RECORDED_VALUE else _value(point),
            )

    def _texts(self, pairs: Iterable[KeyValue]) -> Iterator[tuple[str, str]]:
        return ((pair.key, _text(_plain(pair.value, self._depth_max))) for pair in pairs)

    def _attributes(self, pairs: Iterable[KeyValue]) -> tuple[tuple[str, str], ...]:
        """Sort attributes by name; of several with one name the greatest is kept, in whichever order they come."""
        return tuple(dict(sorted(self._texts(pairs))).items())


def hex_id(value: bytes) -> str:
    """Return a trace id as lower-case hex, "" if it is all zero or does not have 16 bytes."""
    return value.hex() if len(value) == 16 and any(value) else ""


def _plain(value: AnyValue, depth_max: int) -> _Plain:
    """Return an AnyValue as plain data. Raises Refused if arrays and objects nest deeper than depth_max."""
    which = value.WhichOneof("value")
    if which is None or which == "string_value_strindex":  # the latter is for profiles only
        return None
    if which not in ("array_value", "kvlist_value"):
        scalar: _Plain = getattr(value, which)
        return scalar
    if depth_max == 0:
        raise Refused(reason="too_deep")
    if which == "array_value":
        return [_plain(element, depth_max - 1) for element in value.array_value.values]
    return {pair.key: _plain(pair.value, depth_max - 1) for pair in value.kvlist_value.values}


def _text(value: _Plain) -> str:
    """Return a value as text: strings unchanged, bytes as lower-case hex, None as "", all others as JSON.

    Objects have sorted keys; bytes inside them are hex strings, NaN and infinities are the strings of OTLP/JSON.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    jsonable = _jsonable(value)
    return jsonable if isinstance(jsonable, str) else msgspec.json.encode(jsonable, order="sorted").decode()


def _jsonable(value: _Plain) -> _Plain:
    """Replace values that JSON does not have. Recursion is bounded by `depth_max`: deeper values were rejected."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [_jsonable(element) for element in value]
    if isinstance(value, dict):
        return {key: _jsonable(element) for key, element in value.items()}
    return value


def _value(point: _Point) -> MetricValue:
    match point:
        case metrics_pb2.NumberDataPoint():
            which = point.WhichOneof("value")
            number: MetricValue = getattr(point, which) if which else None
            return number
        case metrics_pb2.HistogramDataPoint():
            return _histogram(point)
        case metrics_pb2.ExponentialHistogramDataPoint():
            return _exponential(point)
        case metrics_pb2.SummaryDataPoint():
            pairs = tuple((q.quantile, q.value) for q in point.quantile_values)
            return SummaryValue(point.count, point.sum, pairs)


def _histogram(point: metrics_pb2.HistogramDataPoint) -> HistogramValue:
    """Build an explicit-bucket histogram.

    Buckets that contradict their bounds (lengths, order, NaN) are left out; count, sum, min and max are kept, because
    they are valid without buckets. One faulty exporter must not cost the points of others in the same message.
    """
    bounds, counts = tuple(point.explicit_bounds), tuple(point.bucket_counts)
    rising = all(a < b for a, b in pairwise(bounds)) and not any(b != b for b in bounds)
    if not rising or len(counts) != len(bounds) + 1:
        bounds, counts = (), ()
    limits = _optional(point, "min"), _optional(point, "max")
    return HistogramValue(point.count, _optional(point, "sum"), bounds, counts, *limits)


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
    """Return an optional double of a point, None if it is absent."""
    value: float | None = getattr(point, name) if point.HasField(name) else None
    return value
