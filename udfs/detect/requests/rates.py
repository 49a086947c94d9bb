"""How many lines and calls go with a request of which kind, learned from counts of windows alone.

A window is a mixture: so many requests of each operation, so many lines of each shape. Which request wrote which line
is not known; it is what fits the windows best, as least squares without negative rates, by multiplicative updates (Lee
and Seung, NIPS 13, 2000) of sums that decay. One exposure is the window itself: what is written every minute whoever
calls.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.requests import FAILED_REQUESTS, OTHER_REQUESTS, EffectWindow
from state_schemas.state.requests import EffectRates, RecentWindow
from udfs.stats.poisson_change import INTERVAL_WINDOWS, ChangeConfig

__all__ = ["EFFECTS_MAX", "OPERATIONS_MAX", "Rates", "observe", "packed", "unpacked"]

EFFECTS_MAX: Final = 300
OPERATIONS_MAX: Final = 8  # beside the window itself and the rest
AWAY_MS: Final = 3_600_000  # a shape unseen for so long makes room for another
FIT_STEPS: Final = 10  # after each window, from where the last one ended
LEAST: Final = 1e-9
HARDLY: Final = 1e-2  # requests, of an hour's memory
FLOOR: Final = 1e-4  # of a shape's mean rate
_PANE: Final = ""
_Floats = NDArray[np.float64]


@dataclass(slots=True)
class Rates:
    """`EffectRates` with its arrays; the receiver's own."""

    names: list[str]
    templates: dict[str, str]
    operations: list[str]
    requests: _Floats
    gram: _Floats
    cross: _Floats
    rate: _Floats
    past: _Floats
    scatter: _Floats
    runs: _Floats
    recent: list[RecentWindow]
    counts: _Floats
    last_seen: _Floats

    @property
    def expected(self) -> _Floats:
        """(n, k): what the past makes of the requests of each recent window."""
        requests = np.array([window.requests for window in self.recent], np.float64).reshape(-1, len(self.operations))
        expected: _Floats = self.rate @ requests.T
        return expected

    @property
    def variation(self) -> _Floats:
        """(n,): squared, how much intervals usually vary beside chance, in terms of what is expected of them."""
        spread, size = self.scatter[:, 0], self.scatter[:, 1]
        found: _Floats = np.divide(np.maximum(spread, 0.0), size, out=np.zeros_like(size), where=size > 0)
        return found


def unpacked(rates: EffectRates) -> Rates:
    """Copies of everything."""
    n, m, k = len(rates.names), len(rates.operations), len(rates.recent)
    return Rates(
        names=list(rates.names),
        templates=dict(rates.templates),
        operations=list(rates.operations),
        requests=_array(rates.requests, (m,)),
        gram=_array(rates.gram, (m, m)),
        cross=_array(rates.cross, (n, m)),
        rate=_array(rates.rate, (n, m)),
        past=_array(rates.past, (n,)),
        scatter=_array(rates.scatter, (n, 2)),
        runs=_array(rates.runs, (n, 3)),
        recent=list(rates.recent),
        counts=_array(rates.counts, (n, k)),
        last_seen=_array(rates.last_seen, (n,)),
    )


def packed(rates: Rates) -> EffectRates:
    """Inverse of `unpacked`."""
    return EffectRates(
        names=tuple(rates.names),
        templates=rates.templates,
        operations=tuple(rates.operations),
        requests=rates.requests.tobytes(),
        gram=rates.gram.tobytes(),
        cross=rates.cross.tobytes(),
        rate=rates.rate.tobytes(),
        past=rates.past.tobytes(),
        scatter=rates.scatter.tobytes(),
        runs=rates.runs.tobytes(),
        recent=tuple(rates.recent),
        counts=rates.counts.tobytes(),
        last_seen=rates.last_seen.tobytes(),
    )


def observe(
    rates: Rates, start_ms: int, window: EffectWindow, held: frozenset[str], config: ChangeConfig, keep: float
) -> None:
    """Moves the test interval on to this window, which has requests; what leaves it is learned.

    held: shapes of open episodes, which learn nothing meanwhile. keep: what is left of what is known for each window
    that is learned. O(shapes * operations).
    """
    if len(rates.recent) == INTERVAL_WINDOWS:
        _compare(rates, held, config)
    while rates.recent and _is_over(rates, start_ms, config):
        _learn(rates, held, keep)
    _make_room(rates, start_ms, window, held)
    counts = np.array([window.effects.get(name, 0) for name in rates.names], np.float64)
    requests = _requests_of(rates, window)
    rates.last_seen[counts > 0] = start_ms
    _count_runs(rates, counts > 0, held)
    rates.recent.append(RecentWindow(start_ms, tuple(requests.astype(int).tolist()), window.traces, window.ranges))
    rates.counts = np.column_stack((rates.counts, counts))


def accept(rates: Rates, names: Iterable[str]) -> None:
    """What these shapes do lately is usual from now on."""
    places = [rates.names.index(name) for name in names]
    factor = (rates.counts[places].sum(axis=1) + 0.5) / (rates.expected[places].sum(axis=1) + 0.5)
    rates.past[places] *= factor
    for known in (rates.cross, rates.rate):
        known[places] *= factor[:, None]


def forget(rates: Rates, names: Iterable[str]) -> None:
    """The test interval as if these shapes had done in it what is usual: an incident that is over is not told again."""
    places = [rates.names.index(name) for name in names]
    rates.counts[places] = rates.expected[places]


def _count_runs(rates: Rates, seen: NDArray[np.bool_], held: frozenset[str]) -> None:
    """Windows with each shape, and how long it stays away; of an incident that teaches nothing."""
    free = np.array([name not in held for name in rates.names], np.bool_)
    with_it, without, longest = rates.runs.T
    longest = np.where(seen & free, np.maximum(longest, without), longest)
    rates.runs = np.column_stack((with_it + seen, np.where(seen, 0.0, without + 1), longest))


def strange_share(rates: Rates, requests_min: float) -> float:
    """Share of the interval's requests that are of operations of which less than so many were seen."""
    requests = np.array([window.requests[1:] for window in rates.recent], np.float64).sum(axis=0)
    strange = requests[rates.requests[1:] < requests_min].sum()
    return float(strange / max(1.0, requests.sum()))


def _is_over(rates: Rates, start_ms: int, config: ChangeConfig) -> bool:
    return len(rates.recent) >= INTERVAL_WINDOWS or rates.recent[0].start_ms < start_ms - config.gap_ms


def _learn(rates: Rates, held: frozenset[str], keep: float) -> None:
    """The oldest window leaves the interval and becomes part of the past."""
    window = rates.recent.pop(0)
    counts, rates.counts = rates.counts[:, 0].copy(), rates.counts[:, 1:]
    requests = np.array(window.requests, np.float64)
    still = np.array([name in held for name in rates.names], np.bool_)
    counts[still] = rates.rate[still] @ requests
    weight = 1 / requests.sum()  # counts of more requests vary more
    rates.requests = _decayed(rates.requests, keep) + requests
    rates.gram = _decayed(rates.gram, keep) + weight * np.outer(requests, requests)
    rates.cross = _decayed(rates.cross, keep) + weight * np.outer(counts, requests)
    rates.past = _decayed(rates.past, keep) + counts
    _fit(rates)


def _decayed(known: _Floats, keep: float) -> _Floats:
    """What is left of it; nothing of what is next to nothing, whose quotients are noise."""
    left = known * keep
    left[left < LEAST] = 0.0
    return left


def _fit(rates: Rates) -> None:
    """FIT_STEPS closer to the best rates. No rate is quite 0, else it would stay 0."""
    total = rates.requests.sum()
    least = FLOOR * rates.past[:, None] / total
    rate = np.where(rates.rate.any(axis=1)[:, None], rates.rate, rates.past[:, None] / total)
    for _ in range(FIT_STEPS):
        fitted = np.maximum(rate, least) @ rates.gram
        rate = np.maximum(rate, least) * np.divide(rates.cross, fitted, out=np.zeros_like(fitted), where=fitted > 0)
    rates.rate = rate


def _compare(rates: Rates, held: frozenset[str], config: ChangeConfig) -> None:
    """The interval as a whole, against what was expected: how wrong that usually is, chance apart.

    Of a whole interval, as the errors of its windows add up where a mix of requests shifts. An incident that has just
    begun says little: a interval counts for one in memory_intervals, and for no more than half of what was expected.
    """
    counts, expected = rates.counts.sum(axis=1), rates.expected.sum(axis=1)
    off = np.clip(counts - expected, -expected / 2, expected / 2)
    still = np.array([name in held for name in rates.names], np.bool_) | (rates.past <= 0)
    found = np.where(still[:, None], 0.0, np.column_stack((off**2 - expected, expected**2)))
    rates.scatter = np.where(still[:, None], rates.scatter, rates.scatter * config.keep + found)


def _requests_of(rates: Rates, window: EffectWindow) -> _Floats:
    index = {name: place for place, name in enumerate(rates.operations)}
    found = np.zeros(len(rates.operations))
    found[0] = 1.0
    for name, count in window.requests.items():
        found[index[name] if name in index else index[OTHER_REQUESTS]] += count
    return found


def _make_room(rates: Rates, start_ms: int, window: EffectWindow, held: frozenset[str]) -> None:
    """Operations and shapes that are new get a place where there is one, the most frequent shapes first."""
    known = set(rates.operations)
    new = sorted(name for name in window.requests if name not in known)
    if new and len(rates.operations) > OPERATIONS_MAX:
        _drop_operations(rates)
    for name in new:
        is_rest = len(rates.operations) > OPERATIONS_MAX and name != FAILED_REQUESTS
        _add_operation(rates, OTHER_REQUESTS if is_rest else name)
    known = set(rates.names)
    unknown = sorted(
        (name for name in window.effects if name not in known), key=lambda name: (-window.effects[name], name)
    )
    if not unknown:
        return
    _drop_away(rates, start_ms, len(unknown), held)
    added = unknown[: EFFECTS_MAX - len(rates.names)]
    for name in added:
        rates.names.append(name)
        if name in window.templates:
            rates.templates[name] = window.templates[name]
    rates.cross, rates.rate = (_with_rows(known, len(added)) for known in (rates.cross, rates.rate))
    rates.past = np.concatenate((rates.past, np.zeros(len(added))))
    rates.scatter, rates.runs = (_with_rows(known, len(added)) for known in (rates.scatter, rates.runs))
    rates.counts = _with_rows(rates.counts, len(added))
    rates.last_seen = np.concatenate((rates.last_seen, np.zeros(len(added))))


def _add_operation(rates: Rates, name: str) -> None:
    if name in rates.operations:
        return
    rates.operations.append(name)
    rates.requests = np.append(rates.requests, 0.0)
    rates.gram = np.pad(rates.gram, (0, 1))
    rates.cross, rates.rate = (np.pad(known, ((0, 0), (0, 1))) for known in (rates.cross, rates.rate))
    rates.recent = [
        RecentWindow(window.start_ms, (*window.requests, 0), window.traces, window.ranges) for window in rates.recent
    ]


def _drop_operations(rates: Rates) -> None:
    """Operations that have long had no request go."""
    activity = (
        np.array([window.requests for window in rates.recent], np.float64)
        .reshape(-1, len(rates.operations))
        .any(axis=0)
    )
    kept = np.flatnonzero((rates.requests >= HARDLY) | activity | (np.arange(len(rates.operations)) == 0))
    rates.operations = [rates.operations[place] for place in kept]
    rates.requests, rates.gram = rates.requests[kept], rates.gram[np.ix_(kept, kept)]
    rates.cross, rates.rate = rates.cross[:, kept], rates.rate[:, kept]
    rates.recent = [
        RecentWindow(window.start_ms, tuple(window.requests[place] for place in kept), window.traces, window.ranges)
        for window in rates.recent
    ]


def _drop_away(rates: Rates, start_ms: int, wanted: int, held: frozenset[str]) -> None:
    """Shapes that are away for long, or came once, go, the longest first, as far as room is short."""
    short = len(rates.names) + wanted - EFFECTS_MAX
    if short <= 0:
        return
    oldest_ms = min((recent.start_ms for recent in rates.recent), default=start_ms)
    away = sorted(
        (float(seen_ms), name)
        for name, seen_ms, windows in zip(rates.names, rates.last_seen, rates.runs[:, 0], strict=True)
        if (seen_ms < start_ms - AWAY_MS or (windows == 1 and seen_ms < oldest_ms)) and name not in held
    )
    evicted = {name for _, name in away[:short]}
    _keep(rates, (place for place, name in enumerate(rates.names) if name not in evicted))


def _keep(rates: Rates, places: Iterable[int]) -> None:
    kept = list(places)
    rates.names = [rates.names[place] for place in kept]
    rates.templates = {name: rates.templates[name] for name in rates.names if name in rates.templates}
    rates.cross, rates.rate, rates.past = rates.cross[kept], rates.rate[kept], rates.past[kept]
    rates.scatter, rates.runs = rates.scatter[kept], rates.runs[kept]
    rates.counts, rates.last_seen = rates.counts[kept], rates.last_seen[kept]


def _with_rows(array: _Floats, rows: int) -> _Floats:
    return np.concatenate((array, np.zeros((rows, array.shape[1]))))


def _array(data: bytes, shape: tuple[int, ...]) -> _Floats:
    return np.frombuffer(data, "<f8").reshape(shape).astype(np.float64)
