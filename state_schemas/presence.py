"""State of the machines that know who is there: the pre-merge of one partition, the gap watch of one environment."""

from typing import Final

import msgspec

from state_schemas.codec import Codec, register
from state_schemas.latency import Announced
from state_schemas.partials import OffsetRange, Presence, SpanPartial


class PreMergeState(msgspec.Struct, array_like=True, gc=False):
    """spans: key `env|service` -> partials waiting for the next flush. presence: env -> the same for presence.

    known: env -> service -> event time when it was last seen; at most `services_max` names an environment.
    overflowed: env -> (names since the last flush, an example, event time), told on the next flush.
    """

    spans: dict[str, list[SpanPartial]] = msgspec.field(default_factory=dict)
    presence: dict[str, list[Presence]] = msgspec.field(default_factory=dict)
    ranges: dict[str, list[OffsetRange]] = msgspec.field(default_factory=dict)
    known: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    overflowed: dict[str, tuple[int, str, int]] = msgspec.field(default_factory=dict)
    waiting: int = 0
    last_seen_ms: int = 0


class Heard(msgspec.Struct, array_like=True, gc=False):
    """One (signal, service): last pane with records, panes heard so far, longest silence that ended by itself.

    gap_since_ms: end of the last pane before a silence that was announced, 0 if there is none.
    """

    last_pane_ms: int
    panes: int = 0
    silence_ms_max: int = 0
    gap_since_ms: int = 0


class GapLearnt(msgspec.Struct, array_like=True, gc=False):
    """heard: "signal|service" -> Heard; last_pane_ms: newest pane in which anybody was heard; signal_gaps: signal -> since."""

    heard: dict[str, Heard] = msgspec.field(default_factory=dict)
    last_pane_ms: int = 0
    signal_gaps: dict[str, int] = msgspec.field(default_factory=dict)


class GapPane(msgspec.Struct, array_like=True, gc=False):
    """Who was heard in one pane: "signal|service" -> records, and which offsets said so."""

    seen: dict[str, int] = msgspec.field(default_factory=dict)
    ranges: tuple[OffsetRange, ...] = ()


class GapState(msgspec.Struct, array_like=True, gc=False):
    """panes: not yet final. See `Learnt` and `Announced` of the latency state for the two frontiers."""

    env: str
    learnt: GapLearnt = msgspec.field(default_factory=GapLearnt)
    panes: dict[int, GapPane] = msgspec.field(default_factory=dict)
    announced: dict[str, Announced] = msgspec.field(default_factory=dict)
    last_seen_ms: int = 0


class CapacityState(msgspec.Struct, array_like=True, gc=False):
    """told_until_ms: no further capacity insight of this environment before. names: counted since the first."""

    since_ms: int = 0
    names: int = 0
    last_seen_ms: int = 0


PREMERGE_CODEC: Final = register(
    Codec(
        name="pre-merge",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(PreMergeState).decode},
    )
)
GAP_CODEC: Final = register(
    Codec(
        name="telemetry-gap",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(GapState).decode},
    )
)
CAPACITY_CODEC: Final = register(
    Codec(
        name="capacity",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(CapacityState).decode},
    )
)
