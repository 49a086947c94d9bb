"""Rows of the tables `latency_rollups` and `service_edges`: deltas, so rows of a window add up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from state_schemas.aggregates.spans import CALL_DIMENSIONS, Dimension, Series, SpanTable
from state_schemas.contracts.tables import EdgeRow, RollupRow
from state_schemas.state.detector import RollupWindow
from state_schemas.telemetry.resource import ServiceName
from state_schemas.telemetry.spans import SPAN_KINDS
from udfs.detect.service_window import ServiceKey
from udfs.spans.sketches import NO_SPANS, Sketch
from udfs.spans.window import rows
from udfs.stats.duration_histogram import REPRESENTATIVE_NS, pack


def rollup_rows(key: ServiceKey, window: RollupWindow, table: SpanTable) -> Iterator[RollupRow | EdgeRow]:
    """Yield a row for each span kind and name, and one for each callee. O(rows + bins)."""
    writer = _Writer(key.env, key.name, window, table.info.site_id)
    calls: dict[str, dict[Dimension, Sketch]] = {}
    for series, sketch in rows(table):
        if series.dimension in CALL_DIMENSIONS:
            calls.setdefault(series.name, {})[series.dimension] = sketch
        else:
            yield writer.rollup(series, sketch)
    for callee, sketches in calls.items():
        yield writer.edge(callee, sketches)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writer of the rows of one window of a service."""

    env: str
    service: ServiceName
    window: RollupWindow
    site_id: str

    def rollup(self, series: Series, sketch: Sketch) -> RollupRow:
        return RollupRow(
            env=self.env,
            site_id=self.site_id,
            service=self.service.name,
            dimension=series.dimension.name.lower(),
            name=series.name,
            span_kind=SPAN_KINDS[series.kind],
            resolution_s=self.window.resolution_s,
            window_start_ms=self.window.start_ms,
            late=self.window.late,
            count=sketch.spans,
            error_count=sketch.errors,
            latency_ms_p50=_quantile_ms(sketch, 0.5),
            latency_ms_p95=_quantile_ms(sketch, 0.95),
            latency_ms_p99=_quantile_ms(sketch, 0.99),
            sketch=pack(sketch.bins, sketch.counts),
            namespace=self.service.namespace,
        )

    def edge(self, callee: str, sketches: Mapping[Dimension, Sketch]) -> EdgeRow:
        answers = ServiceName.parse(callee)
        call, gap = sketches[Dimension.CALLEE], sketches[Dimension.NETWORK_TIME]
        ahead, behind = (sketches.get(dimension, NO_SPANS) for dimension in (Dimension.AHEAD, Dimension.BEHIND))
        return EdgeRow(
            env=self.env,
            site_id=self.site_id,
            service=self.service.name,
            callee=answers.name,
            resolution_s=self.window.resolution_s,
            window_start_ms=self.window.start_ms,
            late=self.window.late,
            count=call.spans,
            error_count=call.errors,
            latency_ms_p50=_quantile_ms(call, 0.5),
            latency_ms_p95=_quantile_ms(call, 0.95),
            latency_ms_p99=_quantile_ms(call, 0.99),
            gap_ms_p50=_quantile_ms(gap, 0.5),
            gap_ms_p95=_quantile_ms(gap, 0.95),
            clock_skew_ms_p50=round(_median_skew_ns(ahead, behind) / 1e6, 6),
            sketch=pack(call.bins, call.counts),
            namespace=self.service.namespace,
            callee_namespace=answers.namespace,
        )


def _quantile_ms(sketch: Sketch, q: float) -> float:
    return round(sketch.quantile_ns(q) / 1e6, 6)


def _median_skew_ns(ahead: Sketch, behind: Sketch) -> float:
    """Return the median clock skew: ahead is positive, behind is negative; at least one of the two has spans."""
    values = np.concatenate((-REPRESENTATIVE_NS[behind.bins][::-1], REPRESENTATIVE_NS[ahead.bins]))
    reached = np.cumsum(np.concatenate((behind.counts[::-1], ahead.counts)))
    return float(values[np.searchsorted(reached, (reached[-1] + 1) // 2)])
