"""Exceptions that spans recorded as events, read as lines: each is a line of severity ERROR at the end of its span.

An exception has the same pattern as if a log record had it in its attributes. Its event time is that of its span: the
end. So it is counted in the window in which the span is counted, and is late where the span is late.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.logs import LogAggregate
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.spans import SpanColumns, SpanException
from udfs.event_time import TimeLimits
from udfs.logs.message import PlacedLine, fold_lines
from udfs.logs.reader import LineReader
from udfs.otlp.protobuf import hex_id

__all__ = ["exception_record", "fold_exceptions"]

_ERROR: Final = 17
_NS_PER_MS: Final = 1_000_000


def fold_exceptions(
    spans: SpanColumns, counted: NDArray[np.bool_], reader: LineReader, at: KafkaPosition, limits: TimeLimits
) -> tuple[LogAggregate, ...]:
    """Count the exceptions of accepted spans: one aggregate for each service, in key order. counted: bool (spans,)."""
    records = [exception_record(spans, exception) for exception in spans.exceptions if counted[exception.span]]
    if not records:
        return ()
    lines: list[PlacedLine] = []
    for number, (record, line) in enumerate(zip(records, reader.read(records), strict=True)):
        at_ms = record.time_ns // _NS_PER_MS
        late = at_ms < limits.late_before(at.timestamp_ms)
        start_ms = limits.window_start(at_ms)
        lines.append(PlacedLine(record.resource, at_ms, start_ms, late, record.trace_id, number, line))
    return fold_lines(lines, at)


def exception_record(spans: SpanColumns, exception: SpanException) -> LogRecord:
    """Return the log record with the content of an exception of these spans, at the end of its span.

    An exception that has only a message gives the record of that message.
    """
    attributes = {
        "exception.message": exception.message,
        "exception.stacktrace": exception.stacktrace,
        "exception.type": exception.type,
    }
    return LogRecord(
        resource=spans.resources[spans.resource[exception.span]],
        time_ns=int(spans.end_ns[exception.span]),
        severity_number=_ERROR,
        severity_text="",
        body=exception.message,
        event_name="exception",
        attributes=tuple(attributes.items()),
        trace_id=hex_id(spans.trace_id[exception.span].tobytes()),
    )
