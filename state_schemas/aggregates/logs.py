"""Lines of one service, counted by pattern."""

from typing import Final, Literal

import msgspec

from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

# Source of a line: a log record, or an exception that a span recorded as an event. The two are counted separately: most
# programs write an exception to both, and a sum would count it twice (docs/decisions/0014-exceptions-of-spans.md).
LineSource = Literal["logs", "spans"]

OTHER_PATTERNS: Final = "other"  # pattern id of all lines beyond the cardinality limit


class LineSample(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """One line that stands for others of its pattern."""

    # A hash; of many lines those with the lowest rank are kept.
    rank: int
    trace_id: str
    host: str
    # Masked.
    line: str


class PatternCount(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of one pattern, either the severe ones or the others: a table may hold a pattern as both."""

    # Severity WARN or higher, or an exception.
    severe: bool
    # As in `udfs.logs.template`.
    pattern_id: str
    count: int
    # The greatest OTel severity number of the lines, 0 where no line has one.
    severity: int
    # As in `udfs.logs.template`; () where the registry has them already.
    texts: tuple[str, ...]
    # (name, lines) and samples, both ascending, both of severe lines only.
    hosts: tuple[tuple[str, int], ...] = ()
    samples: tuple[LineSample, ...] = ()
    # `service.version` of severe lines, "" for one without, ascending: the first two, which tell one from several.
    versions: tuple[str, ...] = ()


class LogTable(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of one service in one window."""

    # Ascending and distinct by (severe, pattern_id).
    patterns: tuple[PatternCount, ...]
    # Number of severe lines, counted before they get a pattern: the counts of the severe patterns add up to it.
    severe_lines: int = 0
    info: ServiceInfo = ServiceInfo()
    ranges: tuple[OffsetRange, ...] = ()


class LineAggregate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of one service from some messages."""

    env: str
    service: str
    # (window start in epoch ms, late, table), ascending and distinct.
    windows: tuple[tuple[int, bool, LogTable], ...]


class LogAggregate(LineAggregate, frozen=True, array_like=True, gc=False):
    """Lines that are log records."""


class ExceptionAggregate(LineAggregate, frozen=True, array_like=True, gc=False):
    """Exceptions that spans recorded, each counted as a line.

    It is not a LogAggregate, so that no function adds the two up by accident.
    """
