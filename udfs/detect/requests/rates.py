"""Rates of lines and calls per request of each operation, learned from the counts of windows alone.

A window has a number of requests of each operation and a number of each effect. It is not known which request wrote
which line: the rates are those that fit the windows best, as least squares without negative rates, by multiplicative
updates (Lee and Seung, NIPS 13, 2000) of decaying sums. One exposure is the window itself: lines that are written every
minute without any request.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.requests import FAILED_REQUESTS, OTHER_REQUESTS, EffectWindow
from state_schemas.state.requests import EffectRates, RecentWindow
from udfs.detect.service_window import ServiceWindow
from udfs.stats.poisson_change import INTERVAL_WINDOWS, ChangeConfig

__all__ = ["EFFECTS_MAX", "OPERATIONS_MAX", "Rates"]

EFFECTS_MAX: Final = 300  # watched in a service
OPERATIONS_MAX: Final = 8  # besides the window itself, OTHER_REQUESTS and FAILED_REQUESTS
EXPOSURES_MAX: Final = OPERATIONS_MAX + 3
AWAY_MS: Final = 3_600_000  # an effect that is not seen for so long may be replaced by a new one
FIT_STEPS: Final = 10  # after each window, starting from the rates after the last one
SUM_MIN: Final = 1e-9  # decaying sums below it become 0: their ratios are noise
REQUESTS_MIN: Final = 1e-2  # decaying sum of requests of an operation, below which it may be dropped
RATE_MIN_OF_MEAN: Final = 1e-4  # smallest rate of an operation, as a share of the mean rate of the effect
# An exposure; the records beyond those in use are 0.
EXPOSURE: Final = np.dtype(
    [
        ("requests", "<f8"),  # decaying sum of the exposure
        ("gram", "<f8", (EXPOSURES_MAX,)),  # of its products with all exposures, a window weighted by its requests
    ]
)
EFFECT: Final = np.dtype(
    [
        ("cross", "<f8", (EXPOSURES_MAX,)),  # decaying sums of products of counts and exposures, with the same weights
        ("rate", "<f8", (EXPOSURES_MAX,)),  # the counts per exposure that fit best
        ("past", "<f8"),  # decaying sum of counts
        ("scatter", "<f8"),  # decaying sums over test intervals: of squared deviations beyond chance ...
        ("scale", "<f8"),  # ... and of squared expectations
        ("seen", "<f8"),  # windows with requests: those with the effect ...
        ("away", "<f8"),  # ... those since the last one with it ...
        ("away_max", "<f8"),  # ... and the longest run without it
        ("last_seen_ms", "<f8"),  # start of the newest window with it
        ("counts", "<f8", (INTERVAL_WINDOWS,)),  # in the newest windows, oldest first
    ]
)
_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]


@dataclass(slots=True)
class Rates:
    """`EffectRates` with arrays instead of bytes; all methods but those that return a value change them."""

    names: list[str]
    templates: dict[str, str]
    operations: list[str]
    # (EXPOSURES_MAX,) of EXPOSURE
    exposures: NDArray[np.void]
    recent: list[RecentWindow]
    # (n,) of EFFECT
    effects: NDArray[np.void]
    config: ChangeConfig

    @classmethod
    def unpack(cls, stored: EffectRates, config: ChangeConfig) -> "Rates":
        """Decode the rates; all arrays and collections are copies."""
        exposures = np.frombuffer(stored.exposures, EXPOSURE) if stored.exposures else np.zeros(EXPOSURES_MAX, EXPOSURE)
        effects = np.frombuffer(stored.effects, EFFECT).copy()
        names, templates, operations = list(stored.names), dict(stored.templates), list(stored.operations)
        return cls(names, templates, operations, exposures.copy(), list(stored.recent), effects, config)

    def pack(self) -> EffectRates:
        """Encode the rates; the inverse of `unpack`."""
        names, operations = tuple(self.names), tuple(self.operations)
        exposures, effects = self.exposures.tobytes(), self.effects.tobytes()
        return EffectRates(names, self.templates, operations, exposures, tuple(self.recent), effects)

    @property
    def requests(self) -> _Floats:
        """Decaying sum (EXPOSURES_MAX,) of each exposure, that of the window itself first."""
        return self.exposures["requests"]

    @property
    def counts(self) -> _Floats:
        """Counts (n, k) in the k windows of the test interval; a view."""
        return self.effects["counts"][:, INTERVAL_WINDOWS - len(self.recent) :]

    @property
    def expected(self) -> _Floats:
        """Expected counts (n, k): the usual rates times the requests of each recent window."""
        expected: _Floats = self.effects["rate"] @ self._recent_requests().T
        return expected

    @property
    def variation(self) -> _Floats:
        """Variation (n,): the usual squared relative deviation of intervals from their expectation, beyond chance."""
        spread, size = self.effects["scatter"], self.effects["scale"]
        variation: _Floats = np.divide(np.maximum(spread, 0.0), size, out=np.zeros(len(size)), where=size > 0)
        return variation

    def strange_share(self, requests_min: float) -> float:
        """Return the share of the interval's requests whose operation has less than requests_min in the past."""
        requests = self._recent_requests()[:, 1:].sum(axis=0)
        strange = requests[self.requests[1:] < requests_min].sum()
        return float(strange / max(1.0, requests.sum()))

    def observe(self, window: ServiceWindow[EffectWindow], held: frozenset[str], keep: float) -> None:
        """Move the test interval on to this window, which has requests, and learn the windows that leave the interval.

        held: effects of open episodes; they learn nothing meanwhile. keep: factor by which each learned window reduces
        the weight of older ones. O(effects * operations).
        """
        if len(self.recent) == INTERVAL_WINDOWS:
            self._compare(held)
        oldest_ms = window.start_ms - self.config.gap_ms
        while self.recent and (len(self.recent) >= INTERVAL_WINDOWS or self.recent[0].start_ms < oldest_ms):
            self._learn(held, keep)
        self._make_room(window, held)
        effects, table = self.effects, window.table
        counts = np.array([table.effects.get(name, 0) for name in self.names], np.float64)
        seen = counts > 0
        learned = seen & ~self._are(held)  # the absence of a held effect is not learned as usual
        effects["away_max"][learned] = np.maximum(effects["away_max"], effects["away"])[learned]
        effects["away"] = np.where(seen, 0.0, effects["away"] + 1)
        effects["seen"] += seen
        effects["last_seen_ms"][seen] = window.start_ms
        effects["counts"] = np.column_stack((effects["counts"][:, 1:], counts))
        self.recent.append(RecentWindow(window.start_ms, self._exposures_in(table), table.traces, table.ranges))

    def accept(self, names: Collection[str]) -> None:
        """Take the rates of these effects in the test interval as usual from now on."""
        rows = self._are(names)
        factor = (self.counts[rows].sum(axis=1) + 0.5) / (self.expected[rows].sum(axis=1) + 0.5)
        self.effects["past"][rows] *= factor
        for known in ("cross", "rate"):
            self.effects[known][rows] *= factor[:, None]

    def forget(self, names: Collection[str]) -> None:
        """Set these effects to their expected counts in the test interval: a past incident must not alarm again."""
        rows = self._are(names)
        self.counts[rows] = self.expected[rows]

    def forget_absences(self) -> None:
        """Start to count windows and absences anew: those under one version are no measure for another."""
        for count in ("seen", "away", "away_max"):
            self.effects[count] = 0.0

    def _are(self, names: Collection[str]) -> _Bools:
        """Return (n,): which effects have one of these names."""
        return np.array([name in names for name in self.names], np.bool_)

    def _recent_requests(self) -> _Floats:
        """Return the exposures (k, EXPOSURES_MAX) of the recent windows."""
        return np.array([window.requests for window in self.recent], np.float64).reshape(-1, EXPOSURES_MAX)

    def _exposures_in(self, table: EffectWindow) -> tuple[int, ...]:
        index_of = {name: index for index, name in enumerate(self.operations)}
        requests = [0] * EXPOSURES_MAX
        requests[0] = 1
        for name, count in table.requests.items():
            requests[index_of[name] if name in index_of else index_of[OTHER_REQUESTS]] += count
        return tuple(requests)

    def _learn(self, held: frozenset[str], keep: float) -> None:
        """Move the oldest window from the interval to the past."""
        still, counts = self._are(held), self.counts[:, 0].copy()
        requests = np.array(self.recent.pop(0).requests, np.float64)
        counts[still] = self.effects["rate"][still] @ requests
        weight = 1 / requests.sum()  # counts of more requests vary more
        for records, name, gained in (
            (self.exposures, "requests", requests),
            (self.exposures, "gram", weight * np.outer(requests, requests)),
            (self.effects, "cross", weight * np.outer(counts, requests)),
            (self.effects, "past", counts),
        ):
            left = records[name] * keep
            records[name] = np.where(left < SUM_MIN, 0.0, left) + gained
        self._fit()

    def _fit(self) -> None:
        """Fit the rates by FIT_STEPS further steps. A rate of 0 would stay 0, so each begins a step above 0."""
        m, past, total = len(self.operations), self.effects["past"][:, None], self.requests.sum()
        gram, cross, known = self.exposures["gram"][:m, :m], self.effects["cross"][:, :m], self.effects["rate"][:, :m]
        rate, least = np.where(known.any(axis=1)[:, None], known, past / total), RATE_MIN_OF_MEAN * past / total
        for _ in range(FIT_STEPS):
            rate = np.maximum(rate, least)
            fitted = rate @ gram
            rate *= np.divide(cross, fitted, out=np.zeros_like(fitted), where=fitted > 0)
        self.effects["rate"][:, :m] = rate

    def _compare(self, held: frozenset[str]) -> None:
        """Compare the interval with its expectation, and learn how far the two usually differ beyond chance.

        A whole interval is compared because the errors of its windows add up where the mix of requests shifts. An
        incident that has just begun has little influence: an interval weighs one part in memory_intervals, and its
        deviation is limited to half of the expected count.
        """
        counts, expected = self.counts.sum(axis=1), self.expected.sum(axis=1)
        off = np.clip(counts - expected, -expected / 2, expected / 2)
        still = self._are(held) | (self.effects["past"] <= 0)
        for name, found in (("scatter", off**2 - expected), ("scale", expected**2)):
            known = self.effects[name]
            self.effects[name] = np.where(still, known, known * self.config.keep + found)

    def _make_room(self, window: ServiceWindow[EffectWindow], held: frozenset[str]) -> None:
        """Add new operations and new effects as far as there is room, the most frequent effects first."""
        table = window.table
        new = sorted(table.requests.keys() - set(self.operations))
        if new and len(self.operations) > OPERATIONS_MAX:
            self._drop_operations()
        for name in new:
            is_rest = len(self.operations) > OPERATIONS_MAX and name != FAILED_REQUESTS
            added_name = OTHER_REQUESTS if is_rest else name
            if added_name not in self.operations:
                self.operations.append(added_name)
        unknown = sorted(table.effects.keys() - set(self.names), key=lambda name: (-table.effects[name], name))
        if not unknown:
            return
        self._drop_away(window.start_ms, len(unknown), held)
        added = unknown[: EFFECTS_MAX - len(self.names)]
        self.names += added
        self.templates |= {name: table.templates[name] for name in added if name in table.templates}
        self.effects = np.concatenate((self.effects, np.zeros(len(added), EFFECT)))

    def _drop_operations(self) -> None:
        """Drop operations that have had no request for long."""
        used = (self.requests >= REQUESTS_MIN) | self._recent_requests().any(axis=0)
        used[0] = True
        kept = np.flatnonzero(used[: len(self.operations)])
        self.operations = [self.operations[index] for index in kept]
        for records, name in (
            (self.exposures, "requests"),
            (self.exposures, "gram"),
            (self.effects, "cross"),
            (self.effects, "rate"),
        ):
            records[name] = _first(records[name], kept)
        self.exposures["gram"] = _first(self.exposures["gram"].T, kept).T
        self.recent = [
            msgspec.structs.replace(window, requests=tuple(_first(np.array(window.requests), kept).tolist()))
            for window in self.recent
        ]

    def _drop_away(self, start_ms: int, wanted: int, held: frozenset[str]) -> None:
        """Drop effects that are away for long, or came once, the longest absence first, until `wanted` new ones fit."""
        short = len(self.names) + wanted - EFFECTS_MAX
        if short <= 0:
            return
        oldest_ms = min((recent.start_ms for recent in self.recent), default=start_ms)
        seen_ms = self.effects["last_seen_ms"]
        away = (seen_ms < start_ms - AWAY_MS) | ((self.effects["seen"] == 1) & (seen_ms < oldest_ms))
        rows = np.flatnonzero(away & ~self._are(held)).tolist()
        dropped = set(sorted(rows, key=lambda row: (seen_ms[row], self.names[row]))[:short])
        kept = [row for row in range(len(self.names)) if row not in dropped]
        self.names = [self.names[row] for row in kept]
        self.templates = {name: self.templates[name] for name in self.names if name in self.templates}
        self.effects = self.effects[kept]


def _first(array: NDArray[np.generic], kept: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return the array with the kept columns first, and 0 in the others."""
    moved = np.zeros_like(array)
    moved[..., : len(kept)] = array[..., kept]
    return moved
