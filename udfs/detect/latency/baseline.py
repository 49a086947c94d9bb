"""Baseline of a service, its hosts, operations and callees: learned window by window, read as thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.spans import CALL_DIMENSIONS, DIMENSION_SERVICE, RowKey, SpanTable
from state_schemas.state.latency import WEIGHT_ONE, AlertThresholds, Baseline, SeriesHistory
from udfs.spans.window import BIN_MASK, COARSE, Cells, cells_of, pack_counts, sum_by_code
from udfs.stats.duration_histogram import BIN_BITS, BIN_OVER, EDGES_NS, REPRESENTATIVE_NS
from udfs.stats.likelihood_ratio import usual_share

DECAY_SHIFT: Final = 8  # a window weighs half after 177 further windows: half an hour of 10 s windows with traffic
SERVICE: Final[RowKey] = (0, DIMENSION_SERVICE, "")
# A cell that weighs less than 1/16 span is dropped: it carries no information, and integer decay cannot reduce it.
_WEIGHT_MIN: Final = WEIGHT_ONE >> 4
_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SpikeConfig:
    """Settings of the latency rule: when the latency or the error ratio of a series is an anomaly."""

    # A span is slow beyond max(ratio_min x usual P95, usual P95 + floor_ms), rounded up to a coarse bin.
    ratio_min: float = 1.25
    floor_ms: float = 25.0
    # A span is very slow beyond very_ratio times the threshold of slow spans.
    very_ratio: float = 2.0
    # Threshold of slow spans, in ms, while there is no baseline yet.
    guard_ms: float = 10_000.0
    # Smallest shares, 0..1, of slow and of failing spans that count as an anomaly.
    slow_share_min: float = 0.2
    error_share_min: float = 0.02
    # Nats of evidence that open and that close an episode.
    score_open: float = 12.0
    score_close: float = 8.0
    # Nats that one window can add at most: at least score_open / window_score_max windows must agree.
    window_score_max: float = 6.0
    # Windows and spans that are learned before a baseline is used.
    warm_windows: int = 6
    warm_spans: int = 50
    # Windows and spans until which insights are marked `cold_start`.
    cold_windows: int = 30
    cold_spans: int = 300
    # An episode that lasts this long is the new normal.
    accept_ms: int = 1_800_000
    # The same, where a new `service.version` came with the episode.
    accept_version_ms: int = 600_000
    # An episode without evidence for this long ends.
    close_after_ms: int = 600_000
    # Hosts, operations and callees that are watched.
    series_max: int = 480
    # A series without spans for this long is forgotten.
    idle_ms: int = 24 * 3_600_000


def learn(baseline: Baseline, window: SpanTable, windows: int, start_ms: int, config: SpikeConfig) -> Baseline:
    """Return the baseline after the rows of one more normal window, or of `windows` windows merged.

    A series decays only in windows in which it has spans, so gaps in the data and rare operations do not weaken it. All
    arithmetic is on integers: the same windows give the same bytes on every machine. O(rows + bins log bins).
    """
    if not window.keys:
        return baseline
    old, new = cells_of(baseline.sketch), cells_of(window)
    known = _known_after(baseline, window, new, windows, start_ms, config)
    keys = tuple(sorted(known))
    index = {key: row for row, key in enumerate(keys)}
    old_row, new_row = (_rows_of(sketch.keys, index) for sketch in (baseline.sketch, window))
    ages = np.zeros(len(keys) + 1, np.bool_)
    ages[new_row] = True
    errors = np.zeros(len(keys) + 1, np.int64)
    errors[old_row] = _aged(old.errors, ages[old_row])
    np.add.at(errors, new_row, new.errors * WEIGHT_ONE)
    old_cell_row, new_cell_row = old_row[old.row], new_row[new.row]
    codes = np.concatenate(((old_cell_row << BIN_BITS) | old.bins, (new_cell_row << BIN_BITS) | new.bins))
    weights = np.concatenate((_aged(old.counts, ages[old_cell_row]), new.counts * WEIGHT_ONE))
    codes, weights = sum_by_code(codes, weights)
    alive = (weights >= _WEIGHT_MIN) & (codes >> BIN_BITS < len(keys))
    codes, weights = codes[alive], weights[alive]
    sketch = SpanTable(
        keys=keys,
        errors=pack_counts(errors[: len(keys)]),
        sizes=np.bincount(codes >> BIN_BITS, minlength=len(keys)).astype("<u2").tobytes(),
        bins=(codes & BIN_MASK).astype("<u2").tobytes(),
        counts=pack_counts(weights),
    )
    return Baseline(sketch, tuple(known[key] for key in keys))


def _aged(weights: _Ints, ages: NDArray[np.bool_]) -> _Ints:
    older: _Ints = weights - np.where(ages, weights >> DECAY_SHIFT, 0)
    return older


def _rows_of(keys: tuple[RowKey, ...], index: Mapping[RowKey, int]) -> _Ints:
    """Return the row of each key; forgotten keys share one row behind all others."""
    return np.array([index.get(key, len(index)) for key in keys], dtype=np.int64)


def _known_after(
    baseline: Baseline, window: SpanTable, new: Cells, windows: int, start_ms: int, config: SpikeConfig
) -> dict[RowKey, SeriesHistory]:
    """Return the history of each series after the window; beyond series_max, `_eviction_order` decides.

    new: the cells of the window.
    """
    known = dict(zip(baseline.sketch.keys, baseline.known, strict=True))
    spans = np.bincount(new.row, weights=new.counts, minlength=len(window.keys)).astype(np.int64)
    for key, added in zip(window.keys, spans.tolist(), strict=True):
        before = known.get(key, SeriesHistory())
        known[key] = SeriesHistory(before.windows + windows, before.spans + added, max(start_ms, before.last_ms))
    kept = {key: entry for key, entry in known.items() if key == SERVICE or start_ms - entry.last_ms < config.idle_ms}
    if len(kept) > config.series_max + 1:
        order = sorted(kept, key=lambda key: _eviction_order(key, kept[key], start_ms, config))
        kept = {key: kept[key] for key in order[: config.series_max + 1]}
    return kept


def _eviction_order(
    key: RowKey, known: SeriesHistory, start_ms: int, config: SpikeConfig
) -> tuple[bool, int, int, int, RowKey]:
    """Return the sort key by which series are kept: the service, then most spans, then most recent, then by hash.

    Spans count only where the series had some within close_after_ms. Without this, a series with spans once a minute
    would be evicted by names that occur once, and would start again each time. Ties go by hash, so that no dimension is
    preferred.
    """
    seen_lately = start_ms - known.last_ms < config.close_after_ms
    known_spans = min(known.spans, config.cold_spans) if seen_lately else 0
    return key != SERVICE, -known_spans, -known.last_ms, crc32(f"{key[1]}|{key[2]}".encode()), key


class Reference(NamedTuple):
    """Values that a window is compared with, an element for each row of the baseline.

    row_of: key -> row.
    p95_ns: usual P95.
    threshold_bin: the bin from which a span is slow.
    slow_share, error_share, very_share: upper estimates of the usual shares of slow, failing and very slow spans.
    very_bin: the bin from which a span is very slow.
    warm: whether enough was learned to evaluate the series. A host, operation or callee must also not be cold, and a
        host or operation must not have WHOLE_SHARE of the traffic.
    cold: whether so little was learned that insights are marked `cold_start`.
    """

    row_of: dict[RowKey, int]
    p95_ns: _Floats
    threshold_bin: _Ints
    slow_share: _Floats
    error_share: _Floats
    very_bin: _Ints
    very_share: _Floats
    warm: NDArray[np.bool_]
    cold: NDArray[np.bool_]

    def thresholds(self, row: int, *, of_errors: bool) -> AlertThresholds:
        """Return the thresholds for a pending alert of this row that begins now."""
        usual_ns = float(self.p95_ns[row]) if self.warm[row] else 0.0
        if of_errors:
            return AlertThresholds(0, 0, float(self.error_share[row]), 0.0, usual_ns, bool(self.cold[row]))
        return AlertThresholds(
            int(self.threshold_bin[row]),
            int(self.very_bin[row]),
            float(self.slow_share[row]),
            float(self.very_share[row]),
            usual_ns,
            bool(self.cold[row]),
        )


def reference(baseline: Baseline, season_ns: float, config: SpikeConfig) -> Reference:
    """Return the thresholds that follow from a baseline. O(rows + bins).

    season_ns: usual P95 of the service at this hour of the week, 0 where unknown. The first row is that of the service;
    a baseline without it gets one with the cold-start thresholds.
    """
    sketch, known = baseline.sketch, baseline.known
    if not sketch.keys or sketch.keys[0] != SERVICE:
        return _with_guard(_reference(sketch, known, season_ns, config), config)
    return _reference(sketch, known, season_ns, config)


def _reference(sketch: SpanTable, known: tuple[SeriesHistory, ...], season_ns: float, config: SpikeConfig) -> Reference:
    cells = cells_of(sketch)
    rows = len(sketch.keys)
    is_service = np.array([key == SERVICE for key in sketch.keys], np.bool_)
    is_call = np.array([dimension in CALL_DIMENSIONS for _, dimension, _ in sketch.keys], np.bool_)
    totals = np.bincount(cells.row, weights=cells.counts, minlength=rows)
    p95_ns = _p95_ns(cells.row, cells.bins, cells.counts, rows)
    own_ns = p95_ns[is_service].max(initial=0.0)
    lift = max(1.0, season_ns / own_ns) if own_ns else 1.0
    windows, spans = (np.array([getattr(entry, name) for entry in known], np.int64) for name in ("windows", "spans"))
    cold = (windows < config.cold_windows) | (spans < config.cold_spans)
    well = (windows >= config.warm_windows) & (spans >= config.warm_spans)
    whole = ~is_call & (totals >= WHOLE_SHARE * totals[is_service].max(initial=0.0))
    warm = np.where(is_service, well, ~cold & ~whole)
    usual_ns = p95_ns * lift
    least_ns = np.maximum(config.ratio_min * usual_ns, usual_ns + config.floor_ms * 1e6)
    threshold_bin = bin_from(np.where(warm, least_ns, config.guard_ms * 1e6))
    very_bin = bin_from(threshold_ns(threshold_bin) * config.very_ratio)
    slow, very = (
        np.bincount(cells.row, weights=cells.counts * (cells.bins >= first[cells.row]), minlength=rows)
        for first in (threshold_bin, very_bin)
    )
    slow_share, very_share = (usual_share(part / WEIGHT_ONE, totals / WEIGHT_ONE, 2.0) for part in (slow, very))
    error_share = usual_share(cells.errors / WEIGHT_ONE, totals / WEIGHT_ONE, 1.5)
    return Reference(
        {key: row for row, key in enumerate(sketch.keys)},
        usual_ns,
        threshold_bin,
        np.where(warm, slow_share, _GUARD_SLOW),
        np.where(warm, error_share, _GUARD_ERRORS),
        very_bin,
        np.where(warm, very_share, _GUARD_SLOW),
        warm,
        cold,
    )


WHOLE_SHARE: Final = 0.95  # a host or operation with this share of the traffic repeats the series of the service
# Usual shares of a series without a baseline: hardly any span is slower than guard_ms, ...
_GUARD_SLOW: Final = 0.03
_GUARD_ERRORS: Final = 0.085  # ... and 5 % fail: 1.5 x 5 % + 1 %, as in `usual_share`


def _with_guard(parts: Reference, config: SpikeConfig) -> Reference:
    """Return the reference with a cold-start row of the service before all others."""
    guard = _guard(config)
    row_of = guard.row_of | {key: row + 1 for key, row in parts.row_of.items()}
    return Reference(row_of, *(np.concatenate(pair) for pair in zip(guard[1:], parts[1:], strict=True)))


def _guard(config: SpikeConfig) -> Reference:
    one = np.ones(1)
    guard_bin = bin_from(one * config.guard_ms * 1e6)
    cold = np.ones(1, np.bool_)
    slow, errors = _GUARD_SLOW * one, _GUARD_ERRORS * one
    return Reference({SERVICE: 0}, 0 * one, guard_bin, slow, errors, guard_bin, slow, ~cold, cold)


def _p95_ns(row: _Ints, bins: _Ints, counts: _Ints, rows: int) -> _Floats:
    """Return the P95 of each row: that of the bin in which 95 % of the row's weight is reached."""
    cumulative = np.cumsum(counts)
    totals = np.bincount(row, weights=counts, minlength=rows).astype(np.int64)
    before = np.cumsum(totals) - totals
    wanted = before + np.maximum(1, np.ceil(0.95 * totals).astype(np.int64))
    cell = np.minimum(np.searchsorted(cumulative, wanted), max(0, len(bins) - 1))
    return np.where(totals > 0, REPRESENTATIVE_NS[bins[cell]] if len(bins) else 0.0, 0.0)


def bin_from(threshold_ns: _Floats) -> _Ints:
    """Return the first coarse bin wholly at or above each threshold: a multiple of COARSE, at most BIN_OVER."""
    first_bin = np.searchsorted(EDGES_NS, threshold_ns, side="left") + 1
    return np.minimum(-(-first_bin // COARSE) * COARSE, BIN_OVER // COARSE * COARSE).astype(np.int64)


def threshold_ns(threshold_bin: _Ints) -> _Floats:
    """Return the duration from which a span is slow: the lower edge of each bin."""
    edges: _Floats = EDGES_NS[threshold_bin - 1].astype(np.float64)
    return edges
