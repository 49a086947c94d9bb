"""The requests of OTLP, and recognition of their signal from the bytes alone, without a topic, also for broken ones.

The three requests share their outer fields in protobuf; the first record that has a time shows which one it is.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from state_schemas.telemetry.signals import SIGNALS, SignalType
from udfs.linear import expression
from udfs.otlp.wire_format import BYTES, FIXED64, Field, fields_of

__all__ = ["REQUESTS", "signal_of"]

REQUESTS: Final[dict[SignalType, Any]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}

_RECORDS_MAX: Final = 100  # records that are inspected; a request of records without times would otherwise take seconds
_RESOURCE, _SCOPE, _RECORD = 1, 2, 2  # fields of a request, of a resource's records, of a scope's
_POINT, _POINT_TIME = 1, 3
_LOG_TIMES: Final = frozenset((1, 11))  # time, observed time
_SPAN_TIMES: Final = frozenset((7, 8))  # start, end
_METRIC_DATA: Final = frozenset((5, 7, 9, 10, 11))  # gauge, sum, histogram, exponential histogram, summary
# The groups are in the order of SIGNALS.
_NAMES: Final = expression(rb'"resource_?(?i:(spans)|(logs)|(metrics))"')


def signal_of(data: bytes) -> SignalType:
    """Return the signal of a request in protobuf or JSON; `logs` if nothing shows it. Never raises."""
    # Protobuf first: no JSON text contains the byte 0x12 that precedes each scope and each record.
    for record in islice(_records(data), _RECORDS_MAX):
        fields = list(fields_of(data, record.first, record.stop))
        times = {field.number for field in fields if field.wire_type == FIXED64}
        if times & _LOG_TIMES:
            return "logs"
        if times & _SPAN_TIMES:
            return "traces"
        if any(field.number in _METRIC_DATA and _has_point(data, field) for field in fields):
            return "metrics"
    named = _NAMES.search(data)
    return SIGNALS[(named.lastindex or 1) - 1] if named else "logs"


def _records(data: bytes) -> Iterator[Field]:
    for resource in _messages(data, Field(0, BYTES, 0, len(data)), _RESOURCE):
        for scope in _messages(data, resource, _SCOPE):
            yield from _messages(data, scope, _RECORD)


def _has_point(data: bytes, metric: Field) -> bool:
    if metric.wire_type != BYTES:
        return False
    points = _messages(data, metric, _POINT)
    fields = (field for point in points for field in fields_of(data, point.first, point.stop))
    return any(field.number == _POINT_TIME and field.wire_type == FIXED64 for field in fields)


def _messages(data: bytes, outer: Field, number: int) -> Iterator[Field]:
    fields = fields_of(data, outer.first, outer.stop)
    return (field for field in fields if field.number == number and field.wire_type == BYTES)
