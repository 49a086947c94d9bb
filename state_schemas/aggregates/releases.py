"""Releases: the version and the image that hosts of a service run."""

import msgspec

from state_schemas.telemetry.message import OffsetRange


class HostRelease(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """That a container of a host sent a record with this version and image, each "" where the record has none."""

    version: str
    image: str
    host: str
    container: str = ""


class ReleaseWindow(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Releases of one service in one window, from records in time."""

    start_ms: int
    # Ascending and distinct.
    seen: tuple[HostRelease, ...]
    # Offsets of the messages that held these records.
    ranges: tuple[OffsetRange, ...]


class ServiceReleases(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Releases of one service in several windows."""

    env: str
    service: str
    # Ascending and distinct by start.
    windows: tuple[ReleaseWindow, ...]
