"""Usual P95 of a service by hour of the week: a slow hour that repeats every week is no anomaly."""

from typing import Final

import numpy as np

from state_schemas.state.latency import Season
from udfs.spans.sketches import Sketch, sum_by_code
from udfs.stats.duration_histogram import REPRESENTATIVE_NS, pack, quantile_bin, unpack

HOURS: Final = 168
HOUR_MS: Final = 3_600_000
SPANS_MIN: Final = 50  # an hour with fewer spans has no P95 that is worth keeping
_NONE: Final = bytes(2 * HOURS)


def observe(season: Season, service: Sketch, start_ms: int) -> Season:
    """Return the season after one more window, anomalous or not: a P95 is used only if two weeks in a row had it.

    service: spans of the service in the window.
    """
    if not service.spans:
        return season
    hour = start_ms // HOUR_MS
    if hour != season.hour:
        return Season(*_closed(season), hour, pack(service.bins, service.counts))
    bins, counts = unpack(season.sketch)
    sums = sum_by_code(np.concatenate((bins, service.bins)), np.concatenate((counts, service.counts)))
    return Season(season.last, season.before, hour, pack(*sums))


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
    bins, counts = unpack(season.sketch)
    if counts.sum() < SPANS_MIN:
        return season.last, season.before
    last, before = (np.frombuffer(data or _NONE, "<u2").copy() for data in (season.last, season.before))
    hour = season.hour % HOURS
    before[hour] = last[hour]
    last[hour] = quantile_bin(bins, counts, 0.95)
    return last.tobytes(), before.tobytes()
