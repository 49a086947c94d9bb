"""What is normal for a service, its hosts and its operations: learning it window by window, and reading it."""

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
# A cell under a sixteenth of a span says nothing any more, and integer decay cannot make it smaller.
_WEIGHT_MIN: Final = WEIGHT_ONE >> 4
_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SpikeConfig:
    """When a service's latency or error ratio is out of line. Ratios and shares 0..1 unless said otherwise.

    ratio_min, floor_ms: slow is beyond max(ratio_min x usual P95, usual P95 + floor_ms), rounded up to a coarse bin;
    very slow is beyond very_ratio x that. guard_ms: slow while there is no baseline yet. slow_share_min,
    error_share_min: smallest shares that matter.
    score_open, score_close: nats to open and to close; window_score_max: what one window can add at most, so that at
    least score_open / window_score_max windows must agree. warm_windows, warm_spans: learned before a baseline is used;
    cold_windows,
    cold_spans: until then `cold_start` is said. accept_ms: a level that lasts this long is the new normal;
    accept_version_ms: likewise where a new `service.version` came with it. close_after_ms: an episode of which nothing
    was seen for so long is over. series_max: hosts, operations, callees watched; idle_ms: one unheard so long is
    forgotten.
    """

    ratio_min: float = 1.25
    floor_ms: float = 25.0
    very_ratio: float = 2.0
    guard_ms: float = 10_000.0
    slow_share_min: float = 0.2
    error_share_min: float = 0.02
    score_open: float = 12.0
    score_close: float = 8.0
    window_score_max: float = 6.0
    warm_windows: int = 6
    warm_spans: int = 50
    cold_windows: int = 30
    cold_spans: int = 300
    accept_ms: int = 1_800_000
    accept_version_ms: int = 600_000
    close_after_ms: int = 600_000
    series_max: int = 480
    idle_ms: int = 24 * 3_600_000


def learn(baseline: Baseline, window: SpanTable, windows: int, start_ms: int, config: SpikeConfig) -> Baseline:
    """The baseline after the rows of one more normal window, or of `windows` windows merged.

    A series ages by the windows that it is in, so holes and rare operations do not wear it out. Integers only: the same
    windows give the same bytes everywhere. O(rows + bins log bins).
    """
    if not window.keys:
        return baseline
    old, new = cells_of(baseline.sketch), cells_of(window)
    known = _known_after(baseline, window, new, windows, start_ms, config)
    keys = tuple(sorted(known))
    index = {key: place for place, key in enumerate(keys)}
    old_row, new_row = (_places(sketch.keys, index) for sketch in (baseline.sketch, window))
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


def _places(keys: tuple[RowKey, ...], index: Mapping[RowKey, int]) -> _Ints:
    """Place of each key; of those that are forgotten, the place behind all others."""
    return np.array([index.get(key, len(index)) for key in keys], dtype=np.int64)


def _known_after(
    baseline: Baseline, window: SpanTable, new: Cells, windows: int, start_ms: int, config: SpikeConfig
) -> dict[RowKey, SeriesHistory]:
    """What is known of each series; of too many the least known go first. new: the window's cells."""
    known = dict(zip(baseline.sketch.keys, baseline.known, strict=True))
    spans = np.bincount(new.row, weights=new.counts, minlength=len(window.keys)).astype(np.int64)
    for key, more in zip(window.keys, spans.tolist(), strict=True):
        before = known.get(key, SeriesHistory())
        known[key] = SeriesHistory(before.windows + windows, before.spans + more, max(start_ms, before.last_ms))
    kept = {key: entry for key, entry in known.items() if key == SERVICE or start_ms - entry.last_ms < config.idle_ms}
    if len(kept) > config.series_max + 1:
        order = sorted(kept, key=lambda key: _standing(key, kept[key], start_ms, config))
        kept = {key: kept[key] for key in order[: config.series_max + 1]}
    return kept


def _standing(
    key: RowKey, known: SeriesHistory, start_ms: int, config: SpikeConfig
) -> tuple[bool, int, int, int, RowKey]:
    """The first keep their place. What is known goes before what is not, while it is heard now and then: else a part
    that comes every minute would have to begin anew each time, beside names that come once. Ties go by hash, so that
    no dimension goes before another."""
    seen_lately = start_ms - known.last_ms < config.close_after_ms
    known_spans = min(known.spans, config.cold_spans) if seen_lately else 0
    return key != SERVICE, -known_spans, -known.last_ms, crc32(f"{key[1]}|{key[2]}".encode()), key


class Reference(NamedTuple):
    """What a window is held against, an element for each row of the baseline.

    row_of: key -> row. p95_ns: usual P95. threshold_bin: from here on a span is slow; very_bin: very slow. slow_share,
    error_share, very_share: usual shares, upper ideas. warm: enough was learned to judge by it; a part must also no
    longer be cold, and a host or operation not be the whole service under another name. cold: so little that an insight
    must say so.
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
        """What coming evidence of this row is weighed against."""
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
    """Reads a baseline. season_ns: P95 that the service is used to at this hour of the week, 0 where unknown.

    The first row is the service's own; a baseline that has none yet gets one by the static guard. O(rows + bins).
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
    # An unknown service is taken to fail in 5 % of its spans, and to be slow by the guard in next to none.
    return Reference(
        {key: place for place, key in enumerate(sketch.keys)},
        usual_ns,
        threshold_bin,
        np.where(warm, slow_share, _GUARD_SLOW),
        np.where(warm, error_share, _GUARD_ERRORS),
        very_bin,
        np.where(warm, very_share, _GUARD_SLOW),
        warm,
        cold,
    )


WHOLE_SHARE: Final = 0.95  # a host or operation with more of the traffic is the service under another name
_GUARD_SLOW: Final = 0.03
_GUARD_ERRORS: Final = 0.085


def _with_guard(parts: Reference, config: SpikeConfig) -> Reference:
    """A reference with the guard's row before all others."""
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
    """P95 of each row: the bin in which 95 % of the row's weight is reached."""
    cumulative = np.cumsum(counts)
    totals = np.bincount(row, weights=counts, minlength=rows).astype(np.int64)
    before = np.cumsum(totals) - totals
    wanted = before + np.maximum(1, np.ceil(0.95 * totals).astype(np.int64))
    place = np.minimum(np.searchsorted(cumulative, wanted), max(0, len(bins) - 1))
    return np.where(totals > 0, REPRESENTATIVE_NS[bins[place]] if len(bins) else 0.0, 0.0)


def bin_from(threshold_ns: _Floats) -> _Ints:
    """The first coarse bin that lies wholly at or above each threshold: a multiple of COARSE, at most BIN_OVER."""
    at = np.searchsorted(EDGES_NS, threshold_ns, side="left") + 1
    return np.minimum(-(-at // COARSE) * COARSE, BIN_OVER // COARSE * COARSE).astype(np.int64)


def threshold_ns(threshold_bin: _Ints) -> _Floats:
    """From where on a span is slow: the lower edge of each bin."""
    edges: _Floats = EDGES_NS[threshold_bin - 1].astype(np.float64)
    return edges
