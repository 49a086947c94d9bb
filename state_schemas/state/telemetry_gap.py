"""State of the no-data detector, one for each environment."""

from typing import Final

import msgspec

from state_schemas.codec import Codec, register
from state_schemas.state.emitted import Announced
from state_schemas.telemetry.message import OffsetRange


class Heard(msgspec.Struct, array_like=True, gc=False):
    """One source of telemetry: an environment, one of its signal types, or one service in a signal type.

    last_ms: start of the newest pane with records. panes: how many there were. silence_ms_max: longest silence between
    two of them that was not announced. first_tick, last_tick: where the signal's clock (`GapLearnt.ticks`) stood at the
    first and the newest of them; silent_ticks_max: like silence_ms_max, in ticks. gap_since_ms: start of the silence
    that was announced and goes on, 0 where there is none.
    """

    last_ms: int
    first_tick: int = 0
    last_tick: int = 0
    panes: int = 0
    silence_ms_max: int = 0
    silent_ticks_max: int = 0
    gap_since_ms: int = 0


class GapLearnt(msgspec.Struct, array_like=True, gc=False):
    """Who is usually heard. services: "signal|service". ticks: signal -> panes in which anybody was heard in it."""

    env: Heard | None = None
    signals: dict[str, Heard] = msgspec.field(default_factory=dict)
    services: dict[str, Heard] = msgspec.field(default_factory=dict)
    ticks: dict[str, int] = msgspec.field(default_factory=dict)


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


GAP_CODEC: Final = register(
    Codec(
        name="telemetry-gap",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(GapState).decode},
    )
)
