"""Conversion of OTLP/JSON to OTLP protobuf and back, and the event times in a request, by the message descriptors.

OTLP/JSON is proto3 JSON with three differences: trace and span ids are hex, enums are integers, unknown fields are
ignored (opentelemetry-proto, `docs/specification.md`). `google.protobuf.json_format` would read the ids as base64.
"""

import base64
import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, Final

import msgspec
from google.protobuf.descriptor import (  # type: ignore[import-untyped]  # protobuf 5 has no py.typed
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from state_schemas.telemetry.signals import SignalType

__all__ = [
    "NotOtlp",
    "Request",
    "dumps",
    "encode",
    "kind_of",
    "loads",
    "newest_ms",
    "parse",
    "request_times_ns",
    "times_ns",
]

Request = ExportTraceServiceRequest | ExportLogsServiceRequest | ExportMetricsServiceRequest
Document = dict[str, Any]

REQUESTS: Final[dict[SignalType, type[Request]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
_ROOTS: Final[dict[str, SignalType]] = {
    "resourceSpans": "traces",
    "resourceLogs": "logs",
    "resourceMetrics": "metrics",
}
_POINT_LISTS: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_HEX_FIELDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_WIDE_INTEGERS: Final = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
    }
)

_Convert = Callable[[Any], Any]


class NotOtlp(ValueError):
    """Bytes or a document that are not an OTLP export request; the text names the difference, without payload."""


def loads(line: bytes) -> Document:
    """Return a JSON object. Raises NotOtlp if the bytes are not JSON or are another JSON type."""
    try:
        document = msgspec.json.decode(line)
    except (ValueError, RecursionError) as error:
        message = f"not JSON: {error}"
        raise NotOtlp(message) from error
    if not isinstance(document, dict):
        message = f"a JSON {type(document).__name__}, expected an object with one of {', '.join(_ROOTS)}"
        raise NotOtlp(message)
    return document


def kind_of(document: Document) -> SignalType:
    """Return the signal by the top-level field. Raises NotOtlp if there is none, or more than one."""
    kinds = [kind for field, kind in _ROOTS.items() if field in document]
    if len(kinds) != 1:
        message = f"found {len(kinds)} of the fields {', '.join(_ROOTS)}, expected exactly one"
        raise NotOtlp(message)
    return kinds[0]


def times_ns(kind: SignalType, document: Document) -> list[int]:
    """Return the event times in a JSON document, epoch ns, in its order, without absent times and 0.

    A span's event time is its end; that of a log record is `timeUnixNano` or else `observedTimeUnixNano`. Raises
    NotOtlp on wrong types.
    """
    try:
        return [time for time in map(int, _json_times(kind, document)) if time]
    except (AttributeError, TypeError, ValueError) as error:
        message = f"not OTLP/JSON: {error}"
        raise NotOtlp(message) from error


def _json_times(kind: SignalType, document: Document) -> Iterator[Any]:
    if kind == "traces":
        for span in _json_records(document, "resourceSpans", "scopeSpans", "spans"):
            yield span.get("endTimeUnixNano", 0)
    elif kind == "logs":
        for record in _json_records(document, "resourceLogs", "scopeLogs", "logRecords"):
            time = record.get("timeUnixNano", 0)
            yield time if int(time) else record.get("observedTimeUnixNano", 0)
    else:
        for metric in _json_records(document, "resourceMetrics", "scopeMetrics", "metrics"):
            for name in _POINT_LISTS:
                for point in metric.get(name, {}).get("dataPoints", ()):
                    yield point.get("timeUnixNano", 0)


def _json_records(document: Document, resources: str, scopes: str, records: str) -> Iterator[Document]:
    for resource in document.get(resources) or ():
        for scope in resource.get(scopes) or ():
            yield from scope.get(records) or ()


def request_times_ns(request: Request) -> list[int]:
    """Return the event times in a protobuf request, as `times_ns` does."""
    return [time for time in _request_times(request) if time]


def _request_times(request: Request) -> Iterator[int]:
    if isinstance(request, ExportTraceServiceRequest):
        yield from (s.end_time_unix_nano for r in request.resource_spans for c in r.scope_spans for s in c.spans)
    elif isinstance(request, ExportLogsServiceRequest):
        records = (record for r in request.resource_logs for c in r.scope_logs for record in c.log_records)
        yield from (record.time_unix_nano or record.observed_time_unix_nano for record in records)
    else:
        metrics = (metric for r in request.resource_metrics for c in r.scope_metrics for metric in c.metrics)
        for metric in metrics:
            data = metric.WhichOneof("data")
            yield from (point.time_unix_nano for point in (getattr(metric, data).data_points if data else ()))


def parse(kind: SignalType, value: bytes) -> Request:
    """Return a request of this kind from protobuf or JSON. Raises NotOtlp if it is neither."""
    if value[:1] in (b"{", b" ", b"\t"):
        return encode(kind, loads(value))
    request = REQUESTS[kind]()
    try:
        request.ParseFromString(value)
    except DecodeError as error:
        message = f"not a protobuf {kind} request: {error}"
        raise NotOtlp(message) from error
    return request


def encode(kind: SignalType, document: Document) -> Request:
    """Convert a JSON document to protobuf. Raises NotOtlp on wrong types.

    Unknown fields are dropped; null means absent.
    """
    cls = REQUESTS[kind]
    try:
        return cls(**_arguments(cls.DESCRIPTOR, document))
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        message = f"not OTLP/JSON: {error}"
        raise NotOtlp(message) from error


def _arguments(descriptor: Descriptor, document: Document) -> dict[str, Any]:
    plan = _reading_plan(descriptor)
    arguments = {}
    for name, value in document.items():
        step = plan.get(name)
        if step is not None and value is not None:
            arguments[step[0]] = step[1](value)
    return arguments


@cache
def _reading_plan(descriptor: Descriptor) -> dict[str, tuple[str, _Convert]]:
    plan = {}
    for field in descriptor.fields:
        convert = _reader(field)
        plan[field.json_name] = (field.name, _for_each(convert) if _is_repeated(field) else convert)
    return plan


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _for_each(convert: _Convert) -> _Convert:
    return lambda values: [convert(value) for value in values]


def _reader(field: FieldDescriptor) -> _Convert:
    if field.message_type is not None:
        inner = field.message_type
        return lambda value: _arguments(inner, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.fromhex if field.name in _HEX_FIELDS else base64.b64decode
    if field.type == FieldDescriptor.TYPE_ENUM:
        enum = field.enum_type
        return lambda value: _enum_number(enum, value)
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return float  # "NaN", "Infinity" and "-Infinity" are the same in proto3 JSON and Python
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL):
        return _unchanged
    return int


def _enum_number(enum: EnumDescriptor, value: Any) -> int:
    return enum.values_by_name[value].number if value in enum.values_by_name else int(value)


def _unchanged(value: Any) -> Any:
    return value


def dumps(request: Request) -> bytes:
    """Return a request as OTLP/JSON, one line, fields in the order of their numbers."""
    return msgspec.json.encode(_document(request))


def _document(message: Any) -> Document:
    document = {}
    for field, value in message.ListFields():
        write = _writer(field)
        document[field.json_name] = [write(item) for item in value] if _is_repeated(field) else write(value)
    return document


@cache
def _writer(field: FieldDescriptor) -> _Convert:
    if field.message_type is not None:
        return _document
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.hex if field.name in _HEX_FIELDS else _base64_text
    if field.type in _WIDE_INTEGERS:
        return str  # JSON numbers hold 53 bits
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _json_double
    return _unchanged


def _base64_text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _json_double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def newest_ms(times: Iterable[int]) -> int:
    """Return the newest of some event times in ns, as ms rounded down. Raises NotOtlp if there is none."""
    newest = max(times, default=0)
    if not newest:
        message = "no record with a time, expected at least one"
        raise NotOtlp(message)
    return newest // 1_000_000
