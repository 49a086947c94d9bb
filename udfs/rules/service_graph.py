"""The service graph as sequence rules see it: which service calls which, and since when that is known.

An edge counts from the first window with a call on, and for EDGE_KEPT_MS after the last one: a call that fails may have
no server span, so that its edge is known of the calls before it. Time is kept in intervals of INTERVAL_MS, and of each
interval the earliest window decides. So what is known does not depend on how often an edge is passed on.
"""

from collections.abc import Iterable
from typing import Final

from state_schemas.aggregates.rule_signals import ServiceEdge

__all__ = ["EDGE_KEPT_MS", "after_window", "is_passed_on"]

INTERVAL_MS: Final = 600_000  # an edge of a window is passed on at most once in it, if windows come in their order
EDGE_KEPT_MS: Final = 24 * 3_600_000


def is_passed_on(passed_ms: int | None, start_ms: int) -> bool:
    """Return whether an edge of the window at start_ms is passed on. passed_ms: the last one that was; None for none.

    Of each interval the earliest window is passed on, whatever their order.
    """
    return passed_ms is None or start_ms < passed_ms or _interval(start_ms) > _interval(passed_ms)


def after_window(known: dict[ServiceEdge, int], found: Iterable[ServiceEdge], start_ms: int) -> dict[ServiceEdge, int]:
    """Return the edges that count in the window at start_ms, with the interval of their last call. O(edges).

    known: those of the window before; found: those of this one. Returns `known` itself where nothing changes.
    """
    interval = _interval(start_ms)
    new = [edge for edge in found if known.get(edge) != interval]
    since_ms = interval - EDGE_KEPT_MS
    if not new and all(seen_ms >= since_ms for seen_ms in known.values()):
        return known
    return {edge: seen_ms for edge, seen_ms in known.items() if seen_ms >= since_ms} | dict.fromkeys(new, interval)


def _interval(start_ms: int) -> int:
    return start_ms - start_ms % INTERVAL_MS
