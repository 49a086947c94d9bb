"""Activity: records of each service and signal type in a window."""

import msgspec

from state_schemas.telemetry.message import OffsetRange


class Activity(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Records of one signal type of one service."""

    signal: str
    service: str
    records: int


class ActivityWindow(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Who was heard in one window, ascending and distinct by (signal, service), and which offsets said so."""

    start_ms: int
    seen: tuple[Activity, ...]
    ranges: tuple[OffsetRange, ...]


class EnvActivity(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who was heard in an environment. windows: ascending, distinct by start."""

    env: str
    windows: tuple[ActivityWindow, ...]
