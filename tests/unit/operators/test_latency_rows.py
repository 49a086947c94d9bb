"""Rows of roll-ups: each quantile is in its own column."""

import pytest

from operators.detectors.latency_rows import rollup_rows
from state_schemas.contracts.tables import RollupRow
from state_schemas.state.detector import RollupWindow
from tests.support.traffic import START_MS, OneSpan, Sent, aggregates
from udfs.detect.service_window import ServiceKey


def test_a_row_has_the_median_the_p95_and_the_p99_of_its_spans() -> None:
    spans = tuple(OneSpan("cart", START_MS, ms, ms) for ms in range(1, 101))
    ((start_ms, late, table),) = aggregates(Sent(START_MS, spans, 0, 0))[0].windows
    found = list(rollup_rows(ServiceKey("prod", "cart"), RollupWindow(10, start_ms, late), table))
    assert [row.dimension for row in found if isinstance(row, RollupRow)] == ["service", "host", "operation"]
    for row in found:
        quantiles = (row.latency_ms_p50, row.latency_ms_p95, row.latency_ms_p99)
        assert quantiles == pytest.approx((50, 95, 99), rel=0.01)
