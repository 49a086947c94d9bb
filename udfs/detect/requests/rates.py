"""Rates of lines and calls per request of each operation, learned from the counts of windows alone.

A window has a number of requests of each operation and a number of each effect. It is not known which request wrote
which line: the rates are those that fit the windows best, as least squares without negative rates, by multiplicative
updates (Lee and Seung, NIPS 13, 2000) of decaying sums. One exposure is the window itself: lines that are written every
minute without any request.
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

EFFECTS_MAX: Final = 300  # watched in a service
OPERATIONS_MAX: Final = 8  # besides the window itself and OTHER_REQUESTS
AWAY_MS: Final = 3_600_000  # an effect that is not seen for so long may be replaced by a new one
FIT_STEPS: Final = 10  # after each window, starting from the rates after the last one
SUM_MIN: Final = 1e-9  # decaying sums below it become 0: their ratios are noise
REQUESTS_MIN: Final = 1e-2  # decaying sum of requests of an operation, below which it may be dropped
RATE_MIN_OF_MEAN: Final = 1e-4  # smallest rate of an operation, as a share of the mean rate of the effect
_Floats = NDArray[np.float64]


@dataclass(slots=True)
class Rates:
    """`EffectRates` with arrays instead of bytes; the caller may change them."""

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
        """Expected counts (n, k): the usual rates times the requests of each recent window."""
        requests = np.array([window.requests for window in self.recent], np.float64).reshape(-1, len(self.operations))
        expected: _Floats = self.rate @ requests.T
        return expected

    @property
    def variation(self) -> _Floats:
        """Variation (n,): the usual squared relative deviation of intervals from their expectation, beyond chance."""
        spread, size = self.scatter[:, 0], self.scatter[:, 1]
        variation: _Floats = np.divide(np.maximum(spread, 0.0), size, out=np.zeros_like(size), where=size > 0)
        return variation


def unpacked(rates: EffectRates) -> Rates:
    """Decode the rates; all arrays and lists are copies."""
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
    """Encode the rates; the inverse of `unpacked`."""
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
    """Move the test interval on to this window, which has requests, and learn the windows that leave the interval.

    held: effects of open episodes; they learn nothing meanwhile. keep: factor by which each learned window reduces the
    weight of older ones. O(effects * operations).
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
    """Take the rates of these effects in the test interval as usual from now on."""
    indices = [rates.names.index(name) for name in names]
    factor = (rates.counts[indices].sum(axis=1) + 0.5) / (rates.expected[indices].sum(axis=1) + 0.5)
    rates.past[indices] *= factor
    for known in (rates.cross, rates.rate):
        known[indices] *= factor[:, None]


def forget(rates: Rates, names: Iterable[str]) -> None:
    """Set these effects to their expected counts in the test interval, so that a past incident does not alarm again."""
    indices = [rates.names.index(name) for name in names]
    rates.counts[indices] = rates.expected[indices]


def _count_runs(rates: Rates, seen: NDArray[np.bool_], held: frozenset[str]) -> None:
    """Count the windows with each effect and its absence; the absence of a held effect is not learned as usual."""
    free = np.array([name not in held for name in rates.names], np.bool_)
    with_it, without, longest = rates.runs.T
    longest = np.where(seen & free, np.maximum(longest, without), longest)
    rates.runs = np.column_stack((with_it + seen, np.where(seen, 0.0, without + 1), longest))


def strange_share(rates: Rates, requests_min: float) -> float:
    """Return the share of the interval's requests whose operation has less than requests_min requests in the past."""
    requests = np.array([window.requests[1:] for window in rates.recent], np.float64).sum(axis=0)
    strange = requests[rates.requests[1:] < requests_min].sum()
    return float(strange / max(1.0, requests.sum()))


def _is_over(rates: Rates, start_ms: int, config: ChangeConfig) -> bool:
    return len(rates.recent) >= INTERVAL_WINDOWS or rates.recent[0].start_ms < start_ms - config.gap_ms


def _learn(rates: Rates, held: frozenset[str], keep: float) -> None:
    """Move the oldest window from the interval to the past."""
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
    """Return the sums times `keep`; those below SUM_MIN become 0."""
    left = known * keep
    left[left < SUM_MIN] = 0.0
    return left


def _fit(rates: Rates) -> None:
    """Fit the rates by FIT_STEPS further steps. A rate of 0 would stay 0, so each begins a step above 0."""
    total = rates.requests.sum()
    least = RATE_MIN_OF_MEAN * rates.past[:, None] / total
    rate = np.where(rates.rate.any(axis=1)[:, None], rates.rate, rates.past[:, None] / total)
    for _ in range(FIT_STEPS):
        fitted = np.maximum(rate, least) @ rates.gram
        rate = np.maximum(rate, least) * np.divide(rates.cross, fitted, out=np.zeros_like(fitted), where=fitted > 0)
    rates.rate = rate


def _compare(rates: Rates, held: frozenset[str], config: ChangeConfig) -> None:
    """Compare the interval with its expectation, and learn how far the two usually differ beyond chance.

    A whole interval is compared because the errors of its windows add up where the mix of requests shifts. An incident
    that has just begun has little influence: an interval weighs one part in memory_intervals, and its deviation is
    limited to half of the expected count.
    """
    counts, expected = rates.counts.sum(axis=1), rates.expected.sum(axis=1)
    off = np.clip(counts - expected, -expected / 2, expected / 2)
    still = np.array([name in held for name in rates.names], np.bool_) | (rates.past <= 0)
    found = np.where(still[:, None], 0.0, np.column_stack((off**2 - expected, expected**2)))
    rates.scatter = np.where(still[:, None], rates.scatter, rates.scatter * config.keep + found)


def _requests_of(rates: Rates, window: EffectWindow) -> _Floats:
    index_of = {name: index for index, name in enumerate(rates.operations)}
    requests = np.zeros(len(rates.operations))
    requests[0] = 1.0
    for name, count in window.requests.items():
        requests[index_of[name] if name in index_of else index_of[OTHER_REQUESTS]] += count
    return requests


def _make_room(rates: Rates, start_ms: int, window: EffectWindow, held: frozenset[str]) -> None:
    """Add new operations and new effects as far as there is room, the most frequent effects first."""
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
    """Drop operations that have had no request for long."""
    activity = (
        np.array([window.requests for window in rates.recent], np.float64)
        .reshape(-1, len(rates.operations))
        .any(axis=0)
    )
    kept = np.flatnonzero((rates.requests >= REQUESTS_MIN) | activity | (np.arange(len(rates.operations)) == 0))
    rates.operations = [rates.operations[index] for index in kept]
    rates.requests, rates.gram = rates.requests[kept], rates.gram[np.ix_(kept, kept)]
    rates.cross, rates.rate = rates.cross[:, kept], rates.rate[:, kept]
    rates.recent = [
        RecentWindow(window.start_ms, tuple(window.requests[index] for index in kept), window.traces, window.ranges)
        for window in rates.recent
    ]


def _drop_away(rates: Rates, start_ms: int, wanted: int, held: frozenset[str]) -> None:
    """Drop effects that are away for long, or came once, the longest absence first, until `wanted` new ones fit."""
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
    _keep(rates, (index for index, name in enumerate(rates.names) if name not in evicted))


def _keep(rates: Rates, indices: Iterable[int]) -> None:
    kept = list(indices)
    rates.names = [rates.names[index] for index in kept]
    rates.templates = {name: rates.templates[name] for name in rates.names if name in rates.templates}
    rates.cross, rates.rate, rates.past = rates.cross[kept], rates.rate[kept], rates.past[kept]
    rates.scatter, rates.runs = rates.scatter[kept], rates.runs[kept]
    rates.counts, rates.last_seen = rates.counts[kept], rates.last_seen[kept]


def _with_rows(array: _Floats, rows: int) -> _Floats:
    return np.concatenate((array, np.zeros((rows, array.shape[1]))))


def _array(data: bytes, shape: tuple[int, ...]) -> _Floats:
    return np.frombuffer(data, "<f8").reshape(shape).astype(np.float64)
