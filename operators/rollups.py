"""Roll-ups: 10 s windows grow into 1 min and 5 min windows; each emission is a delta, so sums are always right."""

from typing import Final, NamedTuple

from state_schemas.latency import LatencyState
from state_schemas.outputs import RESOLUTIONS_S, RollupRow
from state_schemas.partials import DIMENSIONS, SpanBlock
from state_schemas.telemetry import SPAN_KINDS
from udfs.partials import NameLimits, Row, merge_blocks, names_over, rows
from udfs.sketch import pack, quantile_ns

# Blocks of a window of the finest resolution that wait side by side before they are merged; coarser windows hold one.
# States are written at each end of a bundle: what waits side by side costs more there than merging does.
PENDING_BLOCKS_MAX: Final = 4

Window = tuple[int, int, bool]  # resolution in s, start ms, late


class Due(NamedTuple):
    """rows: for the table. panes: (start ms, block) of the finest windows that are not late, for detection."""

    rows: tuple[RollupRow, ...]
    panes: tuple[tuple[int, SpanBlock], ...]
    names_over: int


def emit_due(state: LatencyState, now_ms: int, names: NameLimits) -> Due:
    """Takes the windows that have ended by now_ms out of `pending`, finest first; each feeds the next coarser one."""
    out: list[RollupRow] = []
    panes: list[tuple[int, SpanBlock]] = []
    over = 0
    for resolution_s, coarser_s in zip(RESOLUTIONS_S, (*RESOLUTIONS_S[1:], 0), strict=True):
        for key in sorted(key for key in state.pending if key[0] == resolution_s and _end_ms(key) <= now_ms):
            blocks = state.pending.pop(key)
            over += names_over(blocks, names)
            block = merge_blocks(blocks, names)
            _, start_ms, late = key
            out += (_row(state, resolution_s, start_ms, late, block, row) for row in rows(block))
            if coarser_s:
                coarser_ms = coarser_s * 1000
                wait(state, (coarser_s, start_ms - start_ms % coarser_ms, late), block, names)
            if resolution_s == RESOLUTIONS_S[0] and not late:
                panes.append((start_ms, block))
    return Due(tuple(out), tuple(panes), over)


def wait(state: LatencyState, window: Window, block: SpanBlock, names: NameLimits) -> None:
    """Adds a block to a window that has not been written yet."""
    waiting = state.pending.setdefault(window, [])
    waiting.append(block)
    if len(waiting) > (PENDING_BLOCKS_MAX if window[0] == RESOLUTIONS_S[0] else 1):
        waiting[:] = [merge_blocks(waiting, names)]


def next_due_ms(state: LatencyState) -> int | None:
    """End of the first window that waits."""
    return min((_end_ms(key) for key in state.pending), default=None)


def _end_ms(key: Window) -> int:
    resolution_s, start_ms, _ = key
    return start_ms + resolution_s * 1000


def _row(state: LatencyState, resolution_s: int, start_ms: int, late: bool, block: SpanBlock, row: Row) -> RollupRow:
    kind, dimension, name = row.key
    p50, p95, p99 = (round(quantile_ns(row.bins, row.counts, q) / 1e6, 6) for q in (0.5, 0.95, 0.99))
    return RollupRow(
        env=state.env,
        site_id=block.facts.site_id,
        service=state.service,
        dimension=DIMENSIONS[dimension],
        name=name,
        span_kind=SPAN_KINDS[kind],
        resolution_s=resolution_s,
        window_start_ms=start_ms,
        late=late,
        count=row.spans,
        error_count=row.errors,
        latency_ms_p50=p50,
        latency_ms_p95=p95,
        latency_ms_p99=p99,
        sketch=pack(row.bins, row.counts),
    )
