"""Reports of what hosts run: what is new at once, what stays the same once in an interval of each source partition.

A report has the window in which the release was seen first in the interval. An earlier one that comes later is reported
as well, and one of an interval before the newest again: the detector of deploys takes the earliest of each interval. Of
more pairs than are remembered those with the smallest hashes are reported in any order of messages, and others if they
come early.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import numpy as np

from operators.ingest.name_admission import AdmittedNames
from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.releases import HostRelease, ReleaseWindow, ServiceReleases
from state_schemas.aggregates.spans import SOURCE_DTYPE, SpanBatch
from state_schemas.state.pre_aggregate import PreAggregateState

RELEASES_MAX: Final = 1_000  # pairs of release and host of a service in an interval; 18 bytes of state each
_NEWEST: Final = 0  # in place of a hash: the number of the newest interval
_BITS: Final = (1 << 63) - 1


class ReleaseReports:
    """The reports that are due after a message: they are added to those that wait in the state."""

    def __init__(self, state: PreAggregateState, interval_ms: int) -> None:
        self._state = state
        self._interval_ms = interval_ms
        # Number of pairs beyond RELEASES_MAX.
        self.refused = 0
        # Greatest hash of a service that has no room, by the `id` of its hashes: it takes 12 us to find.
        self._greatest: dict[int, int] = {}

    def add_spans(self, batch: SpanBatch, services: Sequence[tuple[str, str]]) -> None:
        """Add those of a batch of spans. services: the names under which they are counted. O(resources)."""
        if not batch.sources:
            return
        releases = [_release(*info[:3]) for info in batch.infos]
        hosts = [_mark(host) for host in batch.hosts]
        reported = [self._reported(*name) for name in services]
        for start_ms, service, host, info in np.frombuffer(batch.sources, SOURCE_DTYPE).tolist():
            mark = (releases[info] + hosts[host]) & _BITS
            if self._is_due(reported[service], mark, start_ms):
                version, image, container, _ = batch.infos[info]
                env, name = services[service]
                seen = HostRelease(version, image, batch.hosts[host], container)
                window = ReleaseWindow(start_ms, (seen,), (batch.at,))
                self._add(ServiceReleases(env, name, (window,)))

    def add(self, releases: Iterable[ServiceReleases], names: AdmittedNames) -> None:
        """Add those of log records or metric points."""
        for part in releases:
            env = names.env(part.env)
            for window in part.windows:
                service = names.service(env, part.service, window.start_ms)
                reported = self._reported(env, service)
                for seen in window.seen:
                    mark = (_release(seen.version, seen.image, seen.container) + _mark(seen.host)) & _BITS
                    if self._is_due(reported, mark, window.start_ms):
                        due = ReleaseWindow(window.start_ms, (seen,), window.ranges)
                        self._add(ServiceReleases(env, service, (due,)))

    def _reported(self, env: str, service: str) -> dict[int, int] | None:
        """Return what was reported of a service; None for several services under one name."""
        if service == OTHER:
            return None
        return self._state.reported_releases.setdefault(env, {}).setdefault(service, {})

    def _is_due(self, reported: dict[int, int] | None, mark: int, start_ms: int) -> bool:
        """Return whether a pair in this window says more than what was reported, and remember it."""
        if reported is None:
            return False
        first_ms, interval = reported.get(mark), start_ms // self._interval_ms
        if first_ms is not None and first_ms <= start_ms and first_ms // self._interval_ms == interval:
            return False
        if interval > reported.get(_NEWEST, 0):
            self._begin(reported, interval)
        if first_ms is None and not self._has_room(reported, mark):
            return False
        if first_ms is None or interval >= first_ms // self._interval_ms:
            reported[mark] = start_ms
        return True

    def _has_room(self, reported: dict[int, int], mark: int) -> bool:
        """Return whether a further pair is remembered, if need be instead of the one with the greatest hash."""
        service = id(reported)
        if len(reported) <= RELEASES_MAX:
            self._greatest.pop(service, None)
            return True
        self.refused += 1
        greatest = self._greatest[service] = self._greatest.get(service) or max(reported)
        if mark > greatest:
            return False
        del reported[greatest], self._greatest[service]
        return True

    def _begin(self, reported: dict[int, int], interval: int) -> None:
        """Begin an interval, and forget what was not seen in the one before."""
        oldest_ms = (interval - 1) * self._interval_ms
        for mark in [mark for mark, first_ms in reported.items() if first_ms < oldest_ms]:
            del reported[mark]
        reported[_NEWEST] = interval

    def _add(self, report: ServiceReleases) -> None:
        self._state.releases.append(report)
        self._state.waiting += 1


def _release(version: str, image: str, container: str) -> int:
    """Return the mark of what a container runs; without a name that of states that had no containers."""
    return _mark(version, image, container) if container else _mark(version, image)


@lru_cache(maxsize=65_536)
def _mark(*names: str) -> int:
    """Return 63 bits that stand for names in the state: that of an image has up to 256 characters."""
    return int.from_bytes(blake2b("\x1f".join(names).encode(), digest_size=8).digest(), "big") & _BITS
