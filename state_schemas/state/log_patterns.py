"""State of the log pattern detector."""

from typing import Final, Literal

import msgspec

from state_schemas.aggregates.logs import (
    LogTable,
    PatternCount,
)
from state_schemas.codec import zipped
from state_schemas.state.detector import DetectorState
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

PatternKind = Literal["error_pattern_new", "error_pattern_returned", "error_pattern_surge"]


class LineRate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of a pattern. past, squares: decaying sums of lines and of their squares, as of the service's window as_of.

    recent: (number of a window, lines), ascending, of those with any that were in the test window at as_of or came
    since.
    """

    past: float = 0.0
    squares: float = 0.0
    as_of: int = 0
    recent: tuple[tuple[int, int], ...] = ()


class ServiceLines(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Quiet lines of a service. recent: (start ms, lines) of windows of the test window; the newest has number windows
    - 1.

    past_lines, past_windows: decaying sums of what came before it. windows: how many with lines, or without any where
    that counts; minutes: how many were heard by the newest.
    """

    recent: tuple[tuple[int, int], ...] = ()
    past_lines: float = 0.0
    past_windows: float = 0.0
    windows: int = 0
    minutes: int = 0


class Registered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A loud pattern that was seen in a window.

    texts: what its shapes have in common. first_seen_ms, last_seen_ms: starts of windows. last_minute: in how many
    minutes the service had been heard by then. count: lines so far. alias_of: the pattern it has become part of, or "".
    wide: the key of a pattern made of several others, else ().
    """

    texts: tuple[str, ...]
    first_seen_ms: int
    last_seen_ms: int
    last_minute: int
    away_minutes_max: int = 0
    count: int = 0
    alias_of: str = ""
    wide: tuple[str, ...] = ()
    rate: LineRate = LineRate()


class PatternEpisode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An insight about a pattern that is open; counted: its lines from start_ms to end_ms.

    window_ms: length of a window. absent_ms: how long it had not been seen, of one that returned. usual: lines a
    window, of a surge; recovery: nats for its end. windows: how many with lines. told: whether it was said; one line
    may be chance.
    """

    kind: PatternKind
    start_ms: int
    end_ms: int
    counted: PatternCount
    info: ServiceInfo
    ranges: tuple[OffsetRange, ...]
    window_ms: int
    absent_ms: int = 0
    usual: float = 0.0
    recovery: float = 0.0
    windows: int = 1
    visible: bool = True


class LogPatternModel(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known as of the last final window, whose end is last_end_ms (0 before there is one).

    registry: by pattern id. gone: pattern id -> when it was last seen, of those dropped to make room. episodes: by
    pattern id. minutes: distinct ones with lines of any level, or of stretches with spans; minute: number of the newest
    or of its stretch, since the epoch. refused_lines: lines so far of patterns for which the registry had no room.
    """

    registry: dict[str, Registered] = {}
    evicted: dict[str, int] = {}
    episodes: dict[str, PatternEpisode] = {}
    minutes: int = 0
    minute: int = 0
    refused_lines: int = 0
    lines: ServiceLines = ServiceLines()
    last_end_ms: int = 0


PATTERNS_CODEC: Final = zipped("error-patterns", DetectorState[LogPatternModel, LogTable])
