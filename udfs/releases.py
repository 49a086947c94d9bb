"""Merge of releases."""

from collections.abc import Iterable
from heapq import nsmallest
from typing import Final
from zlib import crc32

from state_schemas.aggregates.releases import HostRelease, ReleaseWindow, ServiceReleases
from state_schemas.telemetry.message import OffsetRange
from udfs.activity import merge_ranges

# Pairs of release and host of a service in one window. Those with the smallest hashes are kept: any grouping of the
# input keeps the same ones.
SEEN_MAX: Final = 1_000


def merge_release_windows(windows: Iterable[ReleaseWindow]) -> tuple[ReleaseWindow, ...]:
    """Return one entry for each window, ascending, with releases and ranges united."""
    seen: dict[int, set[HostRelease]] = {}
    ranges: dict[int, list[OffsetRange]] = {}
    for window in windows:
        seen.setdefault(window.start_ms, set()).update(window.seen)
        ranges.setdefault(window.start_ms, []).extend(window.ranges)
    return tuple(
        ReleaseWindow(start_ms, _bounded(seen[start_ms]), merge_ranges(ranges[start_ms])) for start_ms in sorted(seen)
    )


def merge_releases(parts: Iterable[ServiceReleases]) -> tuple[ServiceReleases, ...]:
    """Return one entry for each (env, service), ascending."""
    windows: dict[tuple[str, str], list[ReleaseWindow]] = {}
    for part in parts:
        windows.setdefault((part.env, part.service), []).extend(part.windows)
    return tuple(ServiceReleases(*name, merge_release_windows(windows[name])) for name in sorted(windows))


def _bounded(seen: set[HostRelease]) -> tuple[HostRelease, ...]:
    kept = nsmallest(SEEN_MAX, seen, key=_rank) if len(seen) > SEEN_MAX else seen
    return tuple(sorted(kept))


def _rank(seen: HostRelease) -> tuple[int, HostRelease]:
    return crc32(f"{seen.version}|{seen.image}|{seen.host}|{seen.container}".encode()), seen
