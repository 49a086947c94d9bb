"""State of the latency detector for one (env, service)."""

from typing import Final, Literal

import msgspec

from state_schemas.aggregates.spans import SpanBlock
from state_schemas.codec import zipped
from state_schemas.state.emitted import Announced

SpikeKind = Literal["latency_spike", "error_ratio"]

# What is watched: (dimension, name), `(DIMENSION_SERVICE, "")` for the service itself.
Series = tuple[int, str]

WEIGHT_ONE: Final = 1 << 12  # one fresh span in a baseline's sketch


class Known(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How well a series is known: panes and spans learnt, start of the newest of those panes."""

    panes: int = 0
    spans: int = 0
    last_ms: int = 0


class Baseline(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is normal: decaying sketches of entry spans over final panes without an anomaly.

    sketch: keys (0, dimension, name), the rows of a pane (`udfs.spans.window.entry_pane`) with counts and errors in
    fixed point, `WEIGHT_ONE` a fresh span; no evidence. known: for each of its keys.
    """

    sketch: SpanBlock = SpanBlock((), b"", b"", b"", b"")
    known: tuple[Known, ...] = ()


class Season(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """P95 of the service by hour of the week: bins of `udfs.stats.duration_histogram`, 0 where unknown; uint16 (168,),
    or b"" at first.

    last, before: of the last two weeks that had the hour. hour: number of the running hour since the epoch; sketch: its
    spans of the service so far.
    """

    last: bytes = b""
    before: bytes = b""
    hour: int = 0
    sketch: SpanBlock = SpanBlock((), b"", b"", b"", b"")


class Hypothesis(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What evidence is weighed against; frozen when suspicion begins, so that it cannot move its own measure.

    threshold_bin: spans from this bin on are slow, 0 for errors; very_bin: very slow. usual_share, very_share: of slow
    (or failing) and of very slow spans while all is well. usual_ns: the usual P95, 0 while there is none.
    """

    threshold_bin: int
    very_bin: int
    usual_share: float
    very_share: float
    usual_ns: float
    cold_start: bool


class Suspicion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A series with evidence for an anomaly, not enough to speak. scores: nats for each alternative
    (`udfs.stats.likelihood_ratio`).

    start_ms: first pane since the scores left 0; end_ms: end of the newest pane that spoke for it.
    """

    hypothesis: Hypothesis
    scores: tuple[float, ...]
    start_ms: int
    end_ms: int


class HeldPane(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A pane that is evidence while something is suspected: all rows, from start_ms to end_ms."""

    start_ms: int
    end_ms: int
    block: SpanBlock


class Episode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An open insight. block: spans from start_ms to end_ms, the end of the last pane that spoke for the anomaly.

    tail: spans after end_ms, which join the block when a later pane speaks for it again. recovery: nats for its end.
    panes: how many since it opened. version: a `service.version` that came with it and has been the only one since, "".
    """

    series: Series
    hypothesis: Hypothesis
    start_ms: int
    end_ms: int
    panes: int
    recovery: float
    version: str
    block: SpanBlock
    tail: SpanBlock | None = None


class Learnt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the machine knows as of its last final pane, whose end is last_end_ms (0 before there is one).

    suspicions: by (kind, dimension, name). held: panes since the oldest of them, the newest where they are too many.
    version: the newest `service.version`, seen since version_since_ms. anomalous_until_ms: end of the newest pane of an
    episode, whatever its kind: what lies before it is never learnt.
    """

    baseline: Baseline = Baseline()
    season: Season = Season()
    suspicions: dict[tuple[SpikeKind, int, str], Suspicion] = {}
    held: tuple[HeldPane, ...] = ()
    episodes: dict[SpikeKind, Episode] = {}
    last_end_ms: int = 0
    version: str = ""
    version_since_ms: int = 0
    anomalous_until_ms: int = 0


class LatencyState(msgspec.Struct, array_like=True, gc=False):
    """pending: (resolution in s, window start ms, late) -> blocks not yet written out. panes: reported, not yet final.

    meaning: the parameters under which this state makes sense; under others the machine starts afresh.
    """

    meaning: str
    env: str
    service: str
    learnt: Learnt = Learnt()
    pending: dict[tuple[int, int, bool], list[SpanBlock]] = msgspec.field(default_factory=dict)
    panes: dict[int, SpanBlock] = msgspec.field(default_factory=dict)
    announced: dict[str, Announced] = msgspec.field(default_factory=dict)
    last_seen_ms: int = 0


LATENCY_CODEC: Final = zipped("latency-spike", LatencyState)
