"""Usual P95 of a service by hour of the week: a slow hour that repeats every week is no anomaly."""

from typing import Final

import numpy as np

from state_schemas.aggregates.spans import SpanTable
from state_schemas.state.latency import Season
from udfs.detect.latency.baseline import SERVICE
from udfs.spans.window import NameLimits, merge_span_tables, only_rows, rows
from udfs.stats.duration_histogram import REPRESENTATIVE_NS, quantile_bin

HOURS: Final = 168
HOUR_MS: Final = 3_600_000
SPANS_MIN: Final = 50  # an hour with fewer spans has no P95 that is worth keeping
_NONE: Final = bytes(2 * HOURS)


def observe(season: Season, window: SpanTable, start_ms: int) -> Season:
    """Return the season after one more window, anomalous or not: a P95 is used only if two weeks in a row had it."""
    hour = start_ms // HOUR_MS
    service = only_rows(window, (SERVICE,))
    if not service.keys:
        return season
    bare = SpanTable(service.keys, service.errors, service.sizes, service.bins, service.counts)
    if hour != season.hour:
        return Season(*_closed(season), hour, bare)
    return Season(season.last, season.before, hour, merge_span_tables([season.sketch, bare], NameLimits()))


def usual_ns(season: Season, start_ms: int) -> float:
    """Return the P95 that both of the last two weeks had around this hour (and one hour each way), 0 where unknown."""
    if not season.before:
        return 0.0
    last, before = (np.frombuffer(data, "<u2") for data in (season.last, season.before))
    around = [(start_ms // HOUR_MS + step) % HOURS for step in (-1, 0, 1)]
    bins = np.minimum(last[around], before[around])
    return float(REPRESENTATIVE_NS[bins.max()]) if bins.max() else 0.0


def _closed(season: Season) -> tuple[bytes, bytes]:
    """Return (last, before) with the P95 of the running hour added."""
    if not season.sketch.keys:
        return season.last, season.before
    (row,) = rows(season.sketch)
    if row.spans < SPANS_MIN:
        return season.last, season.before
    last, before = (np.frombuffer(data or _NONE, "<u2").copy() for data in (season.last, season.before))
    hour = season.hour % HOURS
    before[hour] = last[hour]
    last[hour] = quantile_bin(row.bins, row.counts, 0.95)
    return last.tobytes(), before.tobytes()
