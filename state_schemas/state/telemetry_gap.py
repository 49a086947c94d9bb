"""State of the no-data detector, one for each environment."""

from typing import Final

import msgspec

from state_schemas.aggregates.activity import ActivityWindow
from state_schemas.codec import zipped
from state_schemas.state.detector import DetectorState


class ActivityHistory(msgspec.Struct, array_like=True, gc=False):
    """Usual activity of one source: an environment, one of its signal types, or one service in a signal type."""

    # Start of the newest window with records.
    last_ms: int
    # Ticks, windows in which its signal type had records of any service: at its first and newest window with records.
    first_tick: int = 0
    last_tick: int = 0
    # Number of windows with records.
    windows: int = 0
    # Longest time between two windows with records that was not reported as no data, in ms and in ticks.
    silence_ms_max: int = 0
    silent_ticks_max: int = 0
    # Start of the time without data that was reported and continues, 0 where there is none.
    gap_since_ms: int = 0


class ActivityModel(msgspec.Struct, array_like=True, gc=False):
    """Usual activity of an environment, its signal types and its services."""

    # By "signal|service": "|" is the environment, "signal|" a signal type.
    sources: dict[str, ActivityHistory] = msgspec.field(default_factory=dict)
    last_end_ms: int = 0


GAP_CODEC: Final = zipped("telemetry-gap", DetectorState[ActivityModel, ActivityWindow])
