"""Activity: the number of records of each service and signal type in a window."""

import msgspec

from state_schemas.telemetry.message import OffsetRange


class Activity(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Number of records of one signal type that one service sent."""

    signal: str
    service: str
    records: int


class ActivityWindow(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Activity of one environment in one window."""

    start_ms: int
    # Ascending and distinct by (signal, service).
    seen: tuple[Activity, ...]
    # Offsets of the messages that held these records.
    ranges: tuple[OffsetRange, ...]


class EnvActivity(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Activity of one environment in several windows."""

    env: str
    # Ascending and distinct by start.
    windows: tuple[ActivityWindow, ...]
