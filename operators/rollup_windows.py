"""Windows of several lengths that wait to be written: fine ones grow into coarse ones, each emission is a delta."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

B = TypeVar("B")
RollupWindow = tuple[int, int, bool]  # resolution in s, start ms, late
Pending = dict[RollupWindow, list[B]]
Merge = Callable[[Sequence[B]], B]

# Blocks of a window of the finest resolution that wait side by side before they are merged; coarser windows hold one.
# States are written at each end of a bundle: what waits side by side costs more there than merging does.
PENDING_TABLES_MAX: Final = 4


def wait(
    pending: Pending[B], window: RollupWindow, table: B, merge: Merge[B], side_by_side: int = PENDING_TABLES_MAX
) -> None:
    """Adds a block to a window that has not been written yet."""
    waiting = pending.setdefault(window, [])
    waiting.append(table)
    if len(waiting) > side_by_side:
        waiting[:] = [merge(waiting)]


def take_ended(
    pending: Pending[B], now_ms: int, resolutions_s: Sequence[int], merge: Merge[B]
) -> Iterator[tuple[RollupWindow, B]]:
    """Takes the windows that have ended by now_ms out, finest first, in order; each feeds the next coarser one."""
    for resolution_s, coarser_s in zip(resolutions_s, (*resolutions_s[1:], 0), strict=True):
        for window in sorted(key for key in pending if key[0] == resolution_s and _end_ms(key) <= now_ms):
            table = merge(pending.pop(window))
            _, start_ms, late = window
            if coarser_s:
                coarser = (coarser_s, start_ms - start_ms % (coarser_s * 1000), late)
                wait(pending, coarser, table, merge, side_by_side=1)
            yield window, table


def next_due_ms(pending: Pending[B]) -> int | None:
    """End of the first window that waits."""
    return min((_end_ms(window) for window in pending), default=None)


def _end_ms(window: RollupWindow) -> int:
    resolution_s, start_ms, _ = window
    return start_ms + resolution_s * 1000
