"""Lines of one service by pattern: what a fold makes of a message, and the state of the ErrorPatterns machine."""

from typing import Final, Literal

import msgspec

from state_schemas.codec import Codec, register, zipped
from state_schemas.latency import Announced
from state_schemas.outputs import InsightRevision
from state_schemas.partials import OffsetRange, ServiceInfo

# Where lines come from: log records, or exceptions that spans recorded as events. The two are counted apart: most
# programs write an exception to both, and a sum would count it twice (docs/decisions/0014-exceptions-of-spans.md).
LineSource = Literal["logs", "spans"]
PatternKind = Literal["error_pattern_new", "error_pattern_returned", "error_pattern_surge"]

OTHER_PATTERNS: Final = "other"  # pattern id of all lines beyond the bound


class LineSample(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """A line that stands for others. rank: a hash; of many lines those with the least are kept. line: masked."""

    rank: int
    trace_id: str
    host: str
    line: str


class PatternCount(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of one pattern. loud: WARN and up, and exceptions; the same pattern may be there quiet as well.

    pattern_id, texts: as in `udfs.templates`; texts are () where the registry knows them already. severity: the
    greatest OTel severity number, 0 where none was said. hosts: (name, lines), ascending; samples: ascending; both of
    loud ones only.
    """

    loud: bool
    pattern_id: str
    count: int
    severity: int
    texts: tuple[str, ...]
    hosts: tuple[tuple[str, int], ...] = ()
    samples: tuple[LineSample, ...] = ()


class LogBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of one service in one window. patterns: ascending and distinct by (loud, pattern_id).

    loud_lines: how many lines are loud, counted before they are named: what the patterns must add up to.
    """

    patterns: tuple[PatternCount, ...]
    loud_lines: int = 0
    facts: ServiceInfo = ServiceInfo()
    ranges: tuple[OffsetRange, ...] = ()


class LinePartial(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of one service from some messages. panes: (pane start in epoch ms, late, block), ascending, distinct."""

    env: str
    service: str
    panes: tuple[tuple[int, bool, LogBlock], ...]


class LogPartial(LinePartial, frozen=True, array_like=True, gc=False):
    """Lines of log records."""


class ExceptionPartial(LinePartial, frozen=True, array_like=True, gc=False):
    """Exceptions that spans recorded, each as a line. Not a LogPartial, so that nothing adds the two up by accident."""


class LineRate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lines of a pattern. past, squares: decaying sums of lines and of their squares, as of the service's pane as_of.

    recent: (number of a pane, lines), ascending, of those with any that were in the test window at as_of or came since.
    """

    past: float = 0.0
    squares: float = 0.0
    as_of: int = 0
    recent: tuple[tuple[int, int], ...] = ()


class ServiceLines(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Quiet lines of a service. recent: (start ms, lines) of panes of the test window; the newest has number panes - 1.

    past_lines, past_panes: decaying sums of what came before it. panes: how many with lines, or without any where that
    counts; minutes: how many were heard by the newest.
    """

    recent: tuple[tuple[int, int], ...] = ()
    past_lines: float = 0.0
    past_panes: float = 0.0
    panes: int = 0
    minutes: int = 0


class Registered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A loud pattern that was seen in a pane.

    texts: what its shapes have in common. first_seen_ms, last_seen_ms: starts of panes. last_minute: in how many
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

    pane_ms: length of a pane. absent_ms: how long it had not been seen, of one that returned. usual: lines a pane, of
    a surge; recovery: nats for its end. panes: how many with lines. told: whether it was said; one line may be chance.
    """

    kind: PatternKind
    start_ms: int
    end_ms: int
    counted: PatternCount
    facts: ServiceInfo
    ranges: tuple[OffsetRange, ...]
    pane_ms: int
    absent_ms: int = 0
    usual: float = 0.0
    recovery: float = 0.0
    panes: int = 1
    told: bool = True


class PatternOverflow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A pane with more patterns than there is room for."""

    start_ms: int
    ranges: tuple[OffsetRange, ...]


class PatternsLearnt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known as of the last final pane, whose end is last_end_ms (0 before there is one).

    registry: by pattern id. gone: pattern id -> when it was last seen, of those dropped to make room. episodes: by
    pattern id. minutes: distinct ones with lines of any level, or of stretches with spans; minute: number of the newest
    or of its stretch, since the epoch.
    overflows: when there was no room for a pattern after an hour without such, the last of them; overflow_ms: start of
    the newest pane without room.
    """

    registry: dict[str, Registered] = {}
    gone: dict[str, int] = {}
    episodes: dict[str, PatternEpisode] = {}
    minutes: int = 0
    minute: int = 0
    overflows: tuple[PatternOverflow, ...] = ()
    overflow_ms: int = 0
    lines: ServiceLines = ServiceLines()
    last_end_ms: int = 0


class SourcePatternHeard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A service says of a loud pattern that it has it, or that it is new there. What drives the PatternNews machine.

    seen_ms: start of the first pane with it, or of a newer one. revision: of an insight that begins then, about so many
    lines: `error_pattern_new`, of spans any; None where nothing is said but that it is there.
    """

    env: str
    pattern_id: str
    service: str
    seen_ms: int
    source: LineSource
    lines: int = 0
    revision: InsightRevision | None = None


class PatternHeard(SourcePatternHeard, frozen=True, array_like=True, gc=False):
    """Of lines that are logged."""


class SpanPatternHeard(SourcePatternHeard, frozen=True, array_like=True, gc=False):
    """Of exceptions that spans recorded."""


class PatternNewsState(msgspec.Struct, array_like=True, gc=False):
    """One pattern of an environment. first_seen_ms: of the first pane with it, as far as is known, by service.

    logged: by service, of the last LOGGED_DAYS on which it was logged the first pane with it, ascending. told: of open
    insights, by id. waiting: what is held back until all that came before is known. last_seen_ms: of the newest pane
    that was told of.
    """

    first_seen_ms: dict[str, int] = msgspec.field(default_factory=dict)
    told: dict[str, bool] = msgspec.field(default_factory=dict)
    logged: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    waiting: list[SourcePatternHeard] = msgspec.field(default_factory=list)
    last_seen_ms: int = 0


class PatternsState(msgspec.Struct, array_like=True, gc=False):
    """pending: (resolution in s, window start ms, late) -> blocks not yet written out. panes: reported, not yet final.

    meaning: the parameters under which this state makes sense; under others the machine starts afresh.
    """

    meaning: str
    env: str
    service: str
    learnt: PatternsLearnt = PatternsLearnt()
    pending: dict[tuple[int, int, bool], list[LogBlock]] = msgspec.field(default_factory=dict)
    panes: dict[int, LogBlock] = msgspec.field(default_factory=dict)
    announced: dict[str, Announced] = msgspec.field(default_factory=dict)
    last_seen_ms: int = 0


PATTERNS_CODEC: Final = zipped("error-patterns", PatternsState)
PATTERN_NEWS_CODEC: Final = register(
    Codec(
        name="pattern-news",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(PatternNewsState).decode},
    )
)
