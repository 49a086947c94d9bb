"""State of the log pattern detector."""

from typing import Final, Literal

import msgspec

from state_schemas.aggregates.logs import LogTable, PatternCount
from state_schemas.codec import zipped
from state_schemas.state.detector import DetectorState, OpenEpisode
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

PatternKind = Literal["error_pattern_new", "error_pattern_returned", "error_pattern_surge"]


class LineRate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Rate of the lines of one pattern."""

    # Decaying sums of lines and of their squares in a window, as of the window with number as_of of the service.
    past: float = 0.0
    squares: float = 0.0
    as_of: int = 0
    # (number of a window, lines), ascending: windows with lines that were in the test interval at as_of or are newer.
    recent: tuple[tuple[int, int], ...] = ()


class ServiceLines(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of a service that are not severe."""

    # (start in epoch ms, lines) of the windows of the test interval; the newest has the number windows - 1.
    recent: tuple[tuple[int, int], ...] = ()
    # Decaying sums of lines and of windows before the test interval.
    past_lines: float = 0.0
    past_windows: float = 0.0
    # Number of windows with lines, and of those without lines where the configuration counts them.
    windows: int = 0
    # Number of minutes in which the service was active, up to the newest window.
    minutes: int = 0


class Registered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A severe pattern in the registry."""

    # The parts that its masked lines have in common.
    texts: tuple[str, ...]
    # Starts of the first and of the last window with it.
    first_seen_ms: int
    last_seen_ms: int
    # `LogPatternModel.minutes` at the last window with it.
    last_minute: int
    # Its longest absence so far, in minutes in which the service was active.
    away_minutes_max: int = 0
    # Lines so far.
    count: int = 0
    # Id of the pattern that it was merged into, or "".
    alias_of: str = ""
    # Key of a pattern that was made of several others, else ().
    wide: tuple[str, ...] = ()
    rate: LineRate = LineRate()


class CountedEpisode(OpenEpisode, frozen=True, array_like=True, gc=False):
    """The lines of an open insight about a pattern."""

    kind: PatternKind
    # Lines of the pattern from start_ms to end_ms.
    counted: PatternCount
    info: ServiceInfo
    ranges: tuple[OffsetRange, ...]
    # Length of a window.
    window_ms: int
    # `error_pattern_returned`: time for which the pattern had not been seen.
    absent_ms: int = 0
    # `error_pattern_surge`: usual lines a window.
    usual: float = 0.0
    # True where the insight may be emitted; a single line may be chance.
    visible: bool = True


# A class of its own: in the state, the fields of `OpenEpisode` are behind those of `CountedEpisode`.
class PatternEpisode(CountedEpisode, frozen=True, array_like=True, gc=False, kw_only=True):
    """An open insight about a pattern."""

    # The version of the service that came shortly before the pattern was new, and the one before that; "" for none.
    version: str = ""
    version_before: str = ""


class LogPatternModel(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Model of a service as of its last final window."""

    # By pattern id.
    registry: dict[str, Registered] = {}
    # Pattern id -> time it was last seen, in epoch ms.
    evicted: dict[str, int] = {}
    # By pattern id.
    episodes: dict[str, PatternEpisode] = {}
    # Number of distinct minutes with lines of any severity, or of the intervals with spans.
    minutes: int = 0
    # Number since the epoch of the newest of those minutes or intervals.
    minute: int = 0
    # Lines so far of patterns for which the registry had no room.
    refused_lines: int = 0
    lines: ServiceLines = ServiceLines()
    # End of the last final window, 0 before there is one.
    last_end_ms: int = 0
    # Version of the service -> start of the first window with it; those seen last are at the end.
    versions: dict[str, int] = {}


PATTERNS_CODEC: Final = zipped("error-patterns", DetectorState[LogPatternModel, LogTable])
