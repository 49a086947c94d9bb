"""Exceptions that spans recorded as events, read as lines: each is a line of severity ERROR at the end of its span.

An exception has the same pattern as if a log record had it in its attributes. Its event time is that of its span: the
end. So it is counted in the window in which the span is counted, and is late where the span is late.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.logs import LogAggregate
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.spans import SpanColumns, SpanException
from udfs.event_time import TimeLimits
from udfs.logs.message import PlacedLine, fold_lines
from udfs.logs.reader import LineReader
from udfs.otlp.protobuf import EXCEPTION_ATTRIBUTES, hex_id

__all__ = ["exception_record", "fold_exceptions"]

_ERROR: Final = 17


class FoldedExceptions(NamedTuple):
    """The exceptions of the spans of a message. cut: number of those of which only the beginning is read."""

    # One for each service, in key order.
    logs: tuple[LogAggregate, ...]
    cut: int


def fold_exceptions(
    spans: SpanColumns, counted: NDArray[np.bool_], reader: LineReader, at: KafkaPosition, limits: TimeLimits
) -> FoldedExceptions:
    """Count the exceptions of accepted spans. counted: bool (spans,)."""
    records = [exception_record(spans, exception) for exception in spans.exceptions if counted[exception.span]]
    if not records:
        return FoldedExceptions((), 0)
    places = (limits.place(number, record.time_ns, at.timestamp_ms) for number, record in enumerate(records))
    reads = reader.read(records)
    return FoldedExceptions(fold_lines(map(PlacedLine, records, places, reads), at), sum(read.cut for read in reads))


def exception_record(spans: SpanColumns, exception: SpanException) -> LogRecord:
    """Return the log record with the content of an exception of these spans, at the end of its span.

    An exception that has only a message gives the record of that message.
    """
    texts = (exception.type, exception.message, exception.stacktrace)
    return LogRecord(
        resource=spans.resources[spans.resource[exception.span]],
        time_ns=int(spans.end_ns[exception.span]),
        severity_number=_ERROR,
        severity_text="",
        body=exception.message,
        event_name="exception",
        attributes=tuple(zip(EXCEPTION_ATTRIBUTES, texts, strict=True)),
        trace_id=hex_id(spans.trace_id[exception.span].tobytes()),
    )
