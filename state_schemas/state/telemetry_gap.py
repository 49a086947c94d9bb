"""State of the no-data detector, one for each environment."""

from typing import Final

import msgspec

from state_schemas.codec import zipped
from state_schemas.state.detector import DetectorState
from state_schemas.telemetry.message import OffsetRange


class ActivityHistory(msgspec.Struct, array_like=True, gc=False):
    """One source of telemetry: an environment, one of its signal types, or one service in a signal type.

    last_ms: start of the newest window with records. windows: how many there were. silence_ms_max: longest silence
    between two of them that was not announced. first_tick, last_tick: where the signal's clock (`ActivityModel.ticks`)
    stood at the first and the newest of them; silent_ticks_max: like silence_ms_max, in ticks. gap_since_ms: start of
    the silence that was announced and goes on, 0 where there is none.
    """

    last_ms: int
    first_tick: int = 0
    last_tick: int = 0
    windows: int = 0
    silence_ms_max: int = 0
    silent_ticks_max: int = 0
    gap_since_ms: int = 0


class ActivityModel(msgspec.Struct, array_like=True, gc=False):
    """Who is usually heard. services: "signal|service". ticks: signal -> windows in which anybody was heard in it."""

    env: ActivityHistory | None = None
    signals: dict[str, ActivityHistory] = msgspec.field(default_factory=dict)
    services: dict[str, ActivityHistory] = msgspec.field(default_factory=dict)
    ticks: dict[str, int] = msgspec.field(default_factory=dict)
    last_end_ms: int = 0


class WindowActivity(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Records in one window by "signal|service", and their offsets."""

    seen: dict[str, int] = {}
    ranges: tuple[OffsetRange, ...] = ()


GAP_CODEC: Final = zipped("telemetry-gap", DetectorState[ActivityModel, WindowActivity])
