"""Lines of one service by pattern."""

from typing import Final, Literal

import msgspec

from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

# Where lines come from: log records, or exceptions that spans recorded as events. The two are counted apart: most
# programs write an exception to both, and a sum would count it twice (docs/decisions/0014-exceptions-of-spans.md).
LineSource = Literal["logs", "spans"]

OTHER_PATTERNS: Final = "other"  # pattern id of all lines beyond the bound


class LineSample(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """A line that stands for others. rank: a hash; of many lines those with the least are kept. line: masked."""

    rank: int
    trace_id: str
    host: str
    line: str


class PatternCount(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of one pattern. loud: WARN and up, and exceptions; the same pattern may be there quiet as well.

    pattern_id, texts: as in `udfs.logs.template`; texts are () where the registry knows them already. severity: the
    greatest OTel severity number, 0 where none was said. hosts: (name, lines), ascending; samples: ascending; both of
    loud ones only.
    """

    severe: bool
    pattern_id: str
    count: int
    severity: int
    texts: tuple[str, ...]
    hosts: tuple[tuple[str, int], ...] = ()
    samples: tuple[LineSample, ...] = ()


class LogTable(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of one service in one window. patterns: ascending and distinct by (loud, pattern_id).

    severe_lines: how many lines are loud, counted before they are named: what the patterns must add up to.
    """

    patterns: tuple[PatternCount, ...]
    severe_lines: int = 0
    info: ServiceInfo = ServiceInfo()
    ranges: tuple[OffsetRange, ...] = ()


class LineAggregate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of one service from some messages. windows: (window start in epoch ms, late, block), ascending,
    distinct.
    """

    env: str
    service: str
    windows: tuple[tuple[int, bool, LogTable], ...]


class LogAggregate(LineAggregate, frozen=True, array_like=True, gc=False):
    """Lines of log records."""


class ExceptionAggregate(LineAggregate, frozen=True, array_like=True, gc=False):
    """Exceptions that spans recorded, each as a line. Not a LogAggregate, so that nothing adds the two up by
    accident.
    """
