"""State of the LatencySpike machine for one (env, service)."""

from typing import Final

import msgspec

from state_schemas.codec import Codec, register
from state_schemas.partials import SpanBlock


class Baseline(msgspec.Struct, array_like=True, gc=False):
    """What is normal: a decaying sketch of entry spans over final panes without an anomaly.

    weights: fixed point, `WEIGHT_ONE` a span when fresh; bins ascending. panes, spans: how many were learnt in all.
    """

    bins: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    error_weight: int = 0
    panes: int = 0
    spans: int = 0


class Watch(msgspec.Struct, array_like=True, gc=False):
    """One cumulative-sum test of a share (of slow spans, of errors) and, while it is raised, the episode.

    score: evidence for the anomaly in nats, 0 while all is well. recovery: evidence for its end, while open.
    start_ms: first pane since score left 0; end_ms: end of the last pane that spoke for the anomaly.
    usual_share, alarm_share: the two hypotheses; threshold_ns, usual_ns: what counts as slow, and the usual P95; all
    frozen when score left 0. panes_open: panes since it opened, 0 before. block: entry spans from start to end; tail:
    those after end, which join the block when a later pane speaks for the anomaly again.
    """

    score: float = 0.0
    recovery: float = 0.0
    start_ms: int = 0
    end_ms: int = 0
    panes_open: int = 0
    usual_share: float = 0.0
    alarm_share: float = 0.0
    threshold_ns: float = 0.0
    usual_ns: float = 0.0
    cold_start: bool = False
    block: SpanBlock | None = None
    tail: SpanBlock | None = None


class Learnt(msgspec.Struct, array_like=True, gc=False):
    """What the machine knows as of its last final pane. last_end_ms: end of that pane, 0 before there is one."""

    baseline: Baseline
    latency: Watch
    errors: Watch
    last_end_ms: int = 0


class Announced(msgspec.Struct, array_like=True, gc=False):
    """What went out of one insight. sent: Insight JSON of the last revision.

    settled: JSON as of the last *final* pane that announced it, b"" before there is one. closed: that JSON is closed.
    until_ms: end of the last pane that announced it.
    """

    revision: int
    sent: bytes
    until_ms: int
    settled: bytes = b""
    closed: bool = False


class LatencyState(msgspec.Struct, array_like=True, gc=False):
    """pending: (resolution in s, window start ms, late) -> blocks not yet written out. panes: reported, not yet final.

    meaning: the parameters under which this state makes sense; under others the machine starts afresh.
    """

    meaning: str
    env: str
    service: str
    learnt: Learnt
    pending: dict[tuple[int, int, bool], list[SpanBlock]] = msgspec.field(default_factory=dict)
    panes: dict[int, SpanBlock] = msgspec.field(default_factory=dict)
    announced: dict[str, Announced] = msgspec.field(default_factory=dict)
    last_seen_ms: int = 0


WEIGHT_ONE: Final = 1 << 16

LATENCY_CODEC: Final = register(
    Codec(
        name="latency-spike",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(LatencyState).decode},
    )
)
