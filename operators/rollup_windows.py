"""Roll-up windows of several lengths that wait to be written: fine ones are merged into coarse ones."""

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Final, TypeVar

from state_schemas.state.detector import RollupWindow

A = TypeVar("A")
Pending = dict[RollupWindow, list[A]]
Merge = Callable[[int, Sequence[A]], A]  # start of the window in ms, aggregates

# Aggregates of a window of the finest resolution that wait side by side before they are merged; coarser windows hold
# one. The state is written at the end of each bundle, where many aggregates cost more than merging them.
SIDE_BY_SIDE_MAX: Final = 4


def wait(
    pending: Pending[A], window: RollupWindow, aggregate: A, merge: Merge[A], side_by_side: int = SIDE_BY_SIDE_MAX
) -> None:
    """Add an aggregate to a window that has not been written yet."""
    waiting = pending.setdefault(window, [])
    waiting.append(aggregate)
    if len(waiting) > side_by_side:
        waiting[:] = [merge(window.start_ms, waiting)]


def take_ended(
    pending: Pending[A], now_ms: int, resolutions_s: Sequence[int], merge: Merge[A]
) -> Iterator[tuple[RollupWindow, A]]:
    """Remove and yield the windows that have ended by now_ms, finest first, in order.

    Each is added to the next coarser window.
    """
    for resolution_s, coarser_s in zip_longest(resolutions_s, resolutions_s[1:], fillvalue=0):
        for window in sorted(key for key in pending if key.resolution_s == resolution_s and key.end_ms <= now_ms):
            aggregate = merge(window.start_ms, pending.pop(window))
            if coarser_s:
                start_ms = window.start_ms - window.start_ms % (coarser_s * 1000)
                wait(pending, RollupWindow(coarser_s, start_ms, window.late), aggregate, merge, side_by_side=1)
            yield window, aggregate


def next_due_ms(pending: Pending[A]) -> int | None:
    """Return the end of the first window that waits; None without one."""
    return min((window.end_ms for window in pending), default=None)
