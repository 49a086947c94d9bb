"""Reports of what hosts run: what is new at once, what stays the same once in an interval of each source partition.

A report has the window in which the release was seen first in the interval. An earlier one that comes later is reported
as well, and one of an interval before the newest again: the detector of deploys takes the earliest of each interval. Of
more pairs than are remembered those with the smallest hashes are reported in any order of messages, and others if they
come early. The same holds for the containers of a pair; further ones, as where each process has a name of its own, are
one.
"""

from collections import defaultdict
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
CONTAINERS_MAX: Final = 4  # containers of a pair that are distinguished, each as a pair
_NEWEST: Final = 0  # in place of a hash: the number of the newest interval
_BITS: Final = (1 << 63) - 1
# Of a container with a name the mark has this bit, and the last ones stand for the name: 0 for all further ones.
_NAMED: Final = 1 << 63
_CONTAINER: Final = (1 << 16) - 1


class ReleaseReports:
    """The reports that are due after a message: they are added to those that wait in the state."""

    def __init__(self, state: PreAggregateState, interval_ms: int) -> None:
        self._state = state
        self._interval_ms = interval_ms
        # Number of pairs beyond RELEASES_MAX.
        self.refused = 0
        # Greatest hash of a service that has no room, by the `id` of its hashes: it takes 12 us to find.
        self._greatest: dict[int, int] = {}
        # Marks with a container, by those without, by the `id` of the hashes of a service.
        self._containers: dict[int, dict[int, list[int]]] = {}

    def add_spans(self, batch: SpanBatch, services: Sequence[tuple[str, str]]) -> None:
        """Add those of a batch of spans. services: the names under which they are counted. O(resources)."""
        if not batch.sources:
            return
        releases = [(_mark(version, image), _container(container)) for version, image, container, _ in batch.infos]
        hosts = [_mark(host) for host in batch.hosts]
        reported = [self._reported(*name) for name in services]
        for start_ms, service, host, info in np.frombuffer(batch.sources, SOURCE_DTYPE).tolist():
            release, container_bits = releases[info]
            mark = _joined(release + hosts[host], container_bits)
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
                    mark = _joined(_mark(seen.version, seen.image) + _mark(seen.host), _container(seen.container))
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
        if first_ms is None and not (self._is_distinguished(reported, mark) and self._has_room(reported, mark)):
            return _is_own(mark) and self._is_due(reported, mark & ~_CONTAINER, start_ms)
        if first_ms is None or interval >= first_ms // self._interval_ms:
            reported[mark] = start_ms
        return True

    def _is_distinguished(self, reported: dict[int, int], mark: int) -> bool:
        """Return whether a further container is one of the few of its pair, if need be instead of the greatest."""
        if not _is_own(mark):
            return True
        found = self._containers_of(reported, mark & ~_CONTAINER)
        if len(found) >= CONTAINERS_MAX:
            if mark > max(found):
                return False
            self._join(reported, max(found))
        self._containers.pop(id(reported), None)
        return True

    def _containers_of(self, reported: dict[int, int], pair: int) -> list[int]:
        pairs = self._containers.get(id(reported))
        if pairs is None:
            pairs = self._containers[id(reported)] = defaultdict(list)
            for mark in reported:
                if _is_own(mark):
                    pairs[mark & ~_CONTAINER].append(mark)
        return pairs.get(pair, [])

    def _join(self, reported: dict[int, int], mark: int) -> None:
        """Make a container one of the further ones of its pair: of the newest interval, its earliest report counts."""
        self._greatest.pop(id(reported), None)
        self._containers.pop(id(reported), None)
        pair, first_ms = mark & ~_CONTAINER, reported.pop(mark)
        known_ms = reported.get(pair, first_ms)
        reported[pair] = min(known_ms, first_ms, key=lambda at_ms: (-(at_ms // self._interval_ms), at_ms))

    def _has_room(self, reported: dict[int, int], mark: int) -> bool:
        """Return whether a further pair is remembered, if need be instead of the one with the greatest hash."""
        service = id(reported)
        while len(reported) > RELEASES_MAX:
            greatest = self._greatest[service] = self._greatest.get(service) or max(reported)
            self.refused += not _is_own(max(mark, greatest))
            if mark > greatest:
                return False
            if _is_own(greatest):
                self._join(reported, greatest)
            else:
                del reported[greatest], self._greatest[service]
        self._greatest.pop(service, None)
        return True

    def _begin(self, reported: dict[int, int], interval: int) -> None:
        """Begin an interval, and forget what was not seen in the one before."""
        oldest_ms = (interval - 1) * self._interval_ms
        for mark in [mark for mark, first_ms in reported.items() if first_ms < oldest_ms]:
            del reported[mark]
        self._greatest.pop(id(reported), None)
        self._containers.pop(id(reported), None)
        reported[_NEWEST] = interval

    def _add(self, report: ServiceReleases) -> None:
        self._state.releases.append(report)
        self._state.waiting += 1


def _container(name: str) -> int:
    """Return the bits of a mark that stand for a container, 0 for one without a name."""
    return _NAMED | (_mark(name) & _CONTAINER or 1) if name else 0


def _joined(pair: int, container: int) -> int:
    """Return the mark of a pair; without a name of the container that of states that had none."""
    return pair & _BITS & ~_CONTAINER | container if container else pair & _BITS


def _is_own(mark: int) -> bool:
    """Return whether a mark is that of one container of a pair."""
    return mark > _BITS and bool(mark & _CONTAINER)


@lru_cache(maxsize=65_536)
def _mark(*names: str) -> int:
    """Return 63 bits that stand for names in the state: that of an image has up to 256 characters."""
    return int.from_bytes(blake2b("\x1f".join(names).encode(), digest_size=8).digest(), "big") & _BITS
