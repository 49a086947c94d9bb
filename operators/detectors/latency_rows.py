"""Rows of the tables `latency_rollups` and `service_edges`: deltas, so rows of a window add up."""

from collections.abc import Iterator

import numpy as np

from state_schemas.aggregates.spans import (
    DIMENSION_AHEAD,
    DIMENSION_BEHIND,
    DIMENSION_CALLEE,
    DIMENSION_NETWORK_TIME,
    DIMENSIONS,
    SpanTable,
)
from state_schemas.contracts.tables import EdgeRow, RollupRow
from state_schemas.state.detector import RollupWindow
from state_schemas.telemetry.resource import ServiceName
from state_schemas.telemetry.spans import SPAN_KINDS
from udfs.detect.service_window import ServiceKey
from udfs.spans.window import Row, rows
from udfs.stats.duration_histogram import REPRESENTATIVE_NS, pack, quantile_ns


def rollup_rows(key: ServiceKey, window: RollupWindow, table: SpanTable) -> Iterator[RollupRow | EdgeRow]:
    """Yield a row for each span kind and name, and one for each callee. O(rows + bins)."""
    calls: dict[str, dict[int, Row]] = {}
    for row in rows(table):
        _, dimension, name = row.key
        if dimension < len(DIMENSIONS):
            yield _row(key, window, table, row)
        else:
            calls.setdefault(name, {})[dimension] = row
    for callee, row_of in calls.items():
        yield _edge(key, window, table, callee, row_of)


def _edge(key: ServiceKey, window: RollupWindow, table: SpanTable, callee: str, row_of: dict[int, Row]) -> EdgeRow:
    resolution_s, start_ms, late = window
    answers = ServiceName.parse(callee)
    call, gap = row_of[DIMENSION_CALLEE], row_of[DIMENSION_NETWORK_TIME]
    p50, p95, p99 = (round(quantile_ns(call.bins, call.counts, q) / 1e6, 6) for q in (0.5, 0.95, 0.99))
    gap_p50, gap_p95 = (round(quantile_ns(gap.bins, gap.counts, q) / 1e6, 6) for q in (0.5, 0.95))
    ahead, behind = (row_of.get(dimension) for dimension in (DIMENSION_AHEAD, DIMENSION_BEHIND))
    return EdgeRow(
        env=key.env,
        site_id=table.info.site_id,
        service=key.name.name,
        callee=answers.name,
        resolution_s=resolution_s,
        window_start_ms=start_ms,
        late=late,
        count=call.spans,
        error_count=call.errors,
        latency_ms_p50=p50,
        latency_ms_p95=p95,
        latency_ms_p99=p99,
        gap_ms_p50=gap_p50,
        gap_ms_p95=gap_p95,
        clock_skew_ms_p50=round(_median_skew_ns(ahead, behind) / 1e6, 6),
        sketch=pack(call.bins, call.counts),
        namespace=key.name.namespace,
        callee_namespace=answers.namespace,
    )


def _median_skew_ns(ahead: Row | None, behind: Row | None) -> float:
    """Return the median clock skew: ahead is positive, behind is negative; at least one of the two is given."""
    values = [REPRESENTATIVE_NS[row.bins] * sign for row, sign in ((behind, -1), (ahead, 1)) if row]
    counts = [row.counts for row in (behind, ahead) if row]
    order = np.argsort(np.concatenate(values))
    reached = np.cumsum(np.concatenate(counts)[order])
    return float(np.concatenate(values)[order][np.searchsorted(reached, (reached[-1] + 1) // 2)])


def _row(key: ServiceKey, window: RollupWindow, table: SpanTable, row: Row) -> RollupRow:
    resolution_s, start_ms, late = window
    kind, dimension, name = row.key
    p50, p95, p99 = (round(quantile_ns(row.bins, row.counts, q) / 1e6, 6) for q in (0.5, 0.95, 0.99))
    return RollupRow(
        env=key.env,
        site_id=table.info.site_id,
        service=key.name.name,
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
        namespace=key.name.namespace,
    )
