"""How many lines and calls go with a request of which kind, learnt from counts of panes alone.

A pane is a mixture: so many requests of each operation, so many lines of each shape. Which request wrote which line is
not known, so it is estimated: each line is put down to the operations in proportion to what they are expected to write
(expectation-maximisation for Poisson sources, Shepp and Vardi, IEEE Trans. Med. Imaging 1, 1982, here with a decaying
memory). One source is the pane itself: what is written every minute whoever calls.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from state_schemas.shapes import OTHER_REQUESTS, RecentPane, ShapePane, ShapeRates
from udfs.rate_change import WINDOW_PANES, ChangeConfig
from udfs.templates import template_of

__all__ = ["OPERATIONS_MAX", "SHAPES_MAX", "Rates", "observe", "packed", "unpacked"]

SHAPES_MAX: Final = 300
OPERATIONS_MAX: Final = 8  # beside the pane itself and the rest
AWAY_MS: Final = 3_600_000  # a shape unseen for so long makes room for another
TEMPLATE_CHARS_MAX: Final = 300
_PANE: Final = ""
_Floats = NDArray[np.float64]


@dataclass(slots=True)
class Rates:
    """`ShapeRates` with its arrays; the receiver's own."""

    names: list[str]
    templates: dict[str, str]
    operations: list[str]
    requests: _Floats
    seen: _Floats
    scatter: _Floats
    recent: list[RecentPane]
    counts: _Floats
    last_seen: _Floats

    @property
    def past(self) -> _Floats:
        """(n,): lines or spans that the expectation rests on."""
        total: _Floats = self.seen.sum(axis=1)
        return total

    @property
    def expected(self) -> _Floats:
        """(n, k): what the past makes of the requests of each recent pane."""
        requests = np.array([pane.requests for pane in self.recent], np.float64).reshape(-1, len(self.operations))
        expected: _Floats = _rate(self) @ requests.T
        return expected

    @property
    def dispersion(self) -> _Floats:
        """(n,): how much more a count varies than a Poisson count would, at least 1."""
        return np.maximum(1.0, (self.scatter[:, 0] + 1) / (self.scatter[:, 1] + 1))


def unpacked(rates: ShapeRates) -> Rates:
    """Copies of everything."""
    n, m, k = len(rates.names), len(rates.operations), len(rates.recent)
    return Rates(
        names=list(rates.names),
        templates=dict(rates.templates),
        operations=list(rates.operations),
        requests=_array(rates.requests, (m,)),
        seen=_array(rates.seen, (n, m)),
        scatter=_array(rates.scatter, (n, 2)),
        recent=list(rates.recent),
        counts=_array(rates.counts, (n, k)),
        last_seen=_array(rates.last_seen, (n,)),
    )


def packed(rates: Rates) -> ShapeRates:
    """Inverse of `unpacked`."""
    return ShapeRates(
        names=tuple(rates.names),
        templates=rates.templates,
        operations=tuple(rates.operations),
        requests=rates.requests.tobytes(),
        seen=rates.seen.tobytes(),
        scatter=rates.scatter.tobytes(),
        recent=tuple(rates.recent),
        counts=rates.counts.tobytes(),
        last_seen=rates.last_seen.tobytes(),
    )


def observe(rates: Rates, start_ms: int, pane: ShapePane, held: frozenset[str], config: ChangeConfig) -> None:
    """Moves the test window on to this pane, which has requests; what leaves it is learnt.

    held: shapes of open episodes, which learn nothing meanwhile. O(shapes * operations).
    """
    while rates.recent and _is_over(rates, start_ms, config):
        _learn(rates, held, config)
    _make_room(rates, start_ms, pane, held)
    counts = np.array([pane.shapes.get(name, 0) for name in rates.names], np.float64)
    requests = _requests_of(rates, pane)
    rates.last_seen[counts > 0] = start_ms
    rates.recent.append(RecentPane(start_ms, tuple(requests.astype(int).tolist()), pane.traces, pane.ranges))
    rates.counts = np.column_stack((rates.counts, counts))


def scale(rates: Rates, factors: dict[str, float]) -> None:
    """What these shapes do is usual from now on: so many times what it was."""
    for name, factor in factors.items():
        if name in rates.names:
            rates.seen[rates.names.index(name)] *= factor


def strange_share(rates: Rates, requests_min: float) -> float:
    """Share of the window's requests that are of operations of which less than so many were seen."""
    requests = np.array([pane.requests[1:] for pane in rates.recent], np.float64).sum(axis=0)
    strange = requests[rates.requests[1:] < requests_min].sum()
    return float(strange / max(1.0, requests.sum()))


def _is_over(rates: Rates, start_ms: int, config: ChangeConfig) -> bool:
    return len(rates.recent) >= WINDOW_PANES or rates.recent[0].start_ms < start_ms - config.gap_ms


def _rate(rates: Rates) -> _Floats:
    """(n, m): lines for each exposure; nothing is expected of what is not known."""
    return np.divide(rates.seen, rates.requests, out=np.zeros_like(rates.seen), where=rates.requests > 0)


def _learn(rates: Rates, held: frozenset[str], config: ChangeConfig) -> None:
    """The oldest pane leaves the window and becomes part of the past."""
    pane = rates.recent.pop(0)
    counts, rates.counts = rates.counts[:, 0].copy(), rates.counts[:, 1:]
    requests = np.array(pane.requests, np.float64)
    parts = _rate(rates) * requests
    expected = parts.sum(axis=1)
    still = np.array([name in held for name in rates.names], np.bool_)
    counts[still] = expected[still]
    # A shape of which nothing is known yet, or an operation: the requests share it alike.
    fresh = ((expected == 0) & ~still)[:, None] | (rates.requests == 0)
    guess = counts[:, None] * requests / requests.sum()
    parts = np.where(fresh, guess, parts)
    total = parts.sum(axis=1)
    parts *= np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)[:, None]
    rates.seen = rates.seen * config.keep + parts
    rates.requests = rates.requests * config.keep + requests
    deviation = np.column_stack(((counts - expected) ** 2, expected))
    rates.scatter = rates.scatter * config.keep + np.where((expected > 0)[:, None], deviation, 0.0)


def _requests_of(rates: Rates, pane: ShapePane) -> _Floats:
    index = {name: place for place, name in enumerate(rates.operations)}
    found = np.zeros(len(rates.operations))
    found[0] = 1.0
    for name, count in pane.requests.items():
        found[index[name] if name in index else index[OTHER_REQUESTS]] += count
    return found


def _make_room(rates: Rates, start_ms: int, pane: ShapePane, held: frozenset[str]) -> None:
    """Operations and shapes that are new get a place where there is one, in the order of their names."""
    known = set(rates.operations)
    new = sorted(name for name in pane.requests if name not in known)
    for name in new:
        is_rest = len(rates.operations) > OPERATIONS_MAX
        _add_operation(rates, OTHER_REQUESTS if is_rest else name)
    known = set(rates.names)
    unknown = sorted(name for name in pane.shapes if name not in known)
    if not unknown:
        return
    _drop_away(rates, start_ms, len(unknown), held)
    added = unknown[: SHAPES_MAX - len(rates.names)]
    for name in added:
        rates.names.append(name)
        if name in pane.texts:
            rates.templates[name] = template_of(pane.texts[name])[:TEMPLATE_CHARS_MAX]
    rates.seen = _with_rows(rates.seen, len(added))
    rates.scatter = _with_rows(rates.scatter, len(added))
    rates.counts = _with_rows(rates.counts, len(added))
    rates.last_seen = np.concatenate((rates.last_seen, np.zeros(len(added))))


def _add_operation(rates: Rates, name: str) -> None:
    if name in rates.operations:
        return
    rates.operations.append(name)
    rates.requests = np.append(rates.requests, 0.0)
    rates.seen = np.column_stack((rates.seen, np.zeros(len(rates.names))))
    rates.recent = [RecentPane(pane.start_ms, (*pane.requests, 0), pane.traces, pane.ranges) for pane in rates.recent]


def _drop_away(rates: Rates, start_ms: int, wanted: int, held: frozenset[str]) -> None:
    """Shapes that are away for long go, the longest first, as far as room is short."""
    short = len(rates.names) + wanted - SHAPES_MAX
    if short <= 0:
        return
    away = sorted(
        (float(seen_ms), name)
        for name, seen_ms in zip(rates.names, rates.last_seen, strict=True)
        if seen_ms < start_ms - AWAY_MS and name not in held
    )
    gone = {name for _, name in away[:short]}
    _keep(rates, (place for place, name in enumerate(rates.names) if name not in gone))


def _keep(rates: Rates, places: Iterable[int]) -> None:
    kept = list(places)
    rates.names = [rates.names[place] for place in kept]
    rates.templates = {name: rates.templates[name] for name in rates.names if name in rates.templates}
    rates.seen, rates.scatter = rates.seen[kept], rates.scatter[kept]
    rates.counts, rates.last_seen = rates.counts[kept], rates.last_seen[kept]


def _with_rows(array: _Floats, rows: int) -> _Floats:
    return np.concatenate((array, np.zeros((rows, array.shape[1]))))


def _array(data: bytes, shape: tuple[int, ...]) -> _Floats:
    return np.frombuffer(data, "<f8").reshape(shape).astype(np.float64)
