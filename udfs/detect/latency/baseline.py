"""Baseline of a service, its hosts, operations and callees: learned window by window, read as thresholds."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.spans import CALL_DIMENSIONS, SERVICE, Series
from state_schemas.state.latency import WEIGHT_ONE, AlertThresholds, Baseline, SeriesHistory, SpikeKind
from udfs.detect.lifecycle import Lifecycle
from udfs.spans.sketches import Sketches, merge_sketches
from udfs.spans.window import COARSE, NameLimits
from udfs.stats.duration_histogram import BIN_OVER, EDGES_NS, REPRESENTATIVE_NS
from udfs.stats.likelihood_ratio import usual_share

LIFE: Final = Lifecycle("back to usual", "the level has stayed: it is the new normal", "no more spans", nats_close=8.0)
DECAY_SHIFT: Final = 8  # a window weighs half after 177 further windows: half an hour of 10 s windows with traffic
WHOLE_SHARE: Final = 0.95  # a host or operation with this share of the traffic repeats the series of the service
# A cell that weighs less than 1/16 span is dropped: it carries no information, and integer decay cannot reduce it.
_WEIGHT_MIN: Final = WEIGHT_ONE >> 4
# Usual shares of a series without a baseline: hardly any span is slower than guard_ms, ...
_GUARD_SLOW: Final = 0.03
_GUARD_ERRORS: Final = 0.085  # ... and 5 % fail: 1.5 x 5 % + 1 %, as in `usual_share`
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
    # Nats of evidence that open an episode.
    score_open: float = 12.0
    life: Lifecycle = LIFE
    # Nats that one window can add at most: at least score_open / window_score_max windows must agree.
    window_score_max: float = 6.0
    # Windows and spans that are learned before a baseline is used.
    warm_windows: int = 6
    warm_spans: int = 50
    # Windows and spans until which insights are marked `cold_start`.
    cold_windows: int = 30
    cold_spans: int = 300
    # Time after which an episode is the new normal where a new `service.version` came with it.
    accept_version_ms: int = 600_000
    # Hosts, operations and callees that have a row of their own in a window, and those that are watched.
    names: NameLimits = field(default_factory=NameLimits)
    series_max: int = 480
    # A series without spans for this long is forgotten.
    series_idle_ms: int = 24 * 3_600_000
    # A service without spans for this long is forgotten with its baseline. Longer than a week.
    idle_ms: int = 8 * 24 * 3_600_000

    def share_min(self, kind: SpikeKind) -> float:
        """Return the smallest share of anomalous spans that counts."""
        return self.error_share_min if kind == "error_ratio" else self.slow_share_min


@dataclass(frozen=True, slots=True)
class Learning:
    """Update of a baseline by windows up to the one that starts at start_ms.

    A series decays only in windows in which it has spans, so gaps in the data and rare operations do not weaken it. All
    arithmetic is on integers: the same windows give the same bytes on every machine.
    """

    config: SpikeConfig
    start_ms: int

    def learn(self, baseline: Baseline, window: Sketches, windows: int = 1) -> Baseline:
        """Return the baseline after the rows of one more normal window, or of `windows` windows merged.

        O(rows + bins log bins).
        """
        if not window.keys:
            return baseline
        known = self._known_after(baseline, window, windows)
        old, new = Sketches.unpack(baseline.sketches).only(known), window.only(known)
        weighed = replace(new, errors=new.errors * WEIGHT_ONE, counts=new.counts * WEIGHT_ONE)
        merged = merge_sketches((_aged(old, set(new.keys)), weighed), {})
        alive = merged.counts >= _WEIGHT_MIN
        merged = replace(merged, codes=merged.codes[alive], counts=merged.counts[alive])
        return Baseline(merged.pack(), tuple(known[key] for key in merged.keys))

    def _known_after(self, baseline: Baseline, window: Sketches, windows: int) -> dict[Series, SeriesHistory]:
        """Return the history of each series after the window; beyond series_max, `_eviction_order` decides."""
        known = dict(zip(baseline.sketches.keys, baseline.known, strict=True))
        for key, spans in zip(window.keys, window.spans().tolist(), strict=True):
            before = known.get(key, SeriesHistory())
            last_ms = max(self.start_ms, before.last_ms)
            known[key] = SeriesHistory(before.windows + windows, before.spans + spans, last_ms)
        oldest_ms = self.start_ms - self.config.series_idle_ms
        kept = {key: entry for key, entry in known.items() if key == SERVICE or entry.last_ms > oldest_ms}
        if len(kept) > self.config.series_max + 1:
            order = sorted(kept, key=lambda key: self._eviction_order(key, kept[key]))
            kept = {key: kept[key] for key in order[: self.config.series_max + 1]}
        return kept

    def _eviction_order(self, key: Series, known: SeriesHistory) -> tuple[bool, int, int, int, Series]:
        """Return the sort key by which series are kept: the service, then most spans, then most recent, then by hash.

        Spans count only where the series had some within life.close_after_ms. Without this, a series with spans once a
        minute would be evicted by names that occur once, and would start again each time. Ties go by hash, so that no
        dimension is preferred.
        """
        seen_lately = self.start_ms - known.last_ms < self.config.life.close_after_ms
        known_spans = min(known.spans, self.config.cold_spans) if seen_lately else 0
        return key != SERVICE, -known_spans, -known.last_ms, crc32(f"{key.dimension:d}|{key.name}".encode()), key


def _aged(old: Sketches, seen: Container[Series]) -> Sketches:
    """Return the weights after one more window, in which these series have spans."""
    ages = np.array([key in seen for key in old.keys], np.int64)
    return replace(
        old,
        errors=old.errors - (old.errors >> DECAY_SHIFT) * ages,
        counts=old.counts - (old.counts >> DECAY_SHIFT) * ages[old.row],
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """Values that a window is compared with, an element for each row of the baseline."""

    row_of: Mapping[Series, int]
    # Usual P95.
    p95_ns: _Floats
    # The bins from which a span is slow, and very slow.
    threshold_bin: _Ints
    very_bin: _Ints
    # Upper estimates of the usual shares of slow, very slow and failing spans.
    slow_share: _Floats
    very_share: _Floats
    error_share: _Floats
    # Whether enough was learned to evaluate the series. A host, operation or callee must also not be cold, and a host
    # or operation must not have WHOLE_SHARE of the traffic.
    warm: NDArray[np.bool_]
    # Whether so little was learned that insights are marked `cold_start`.
    cold: NDArray[np.bool_]

    def is_warm(self, series: Series) -> bool:
        """Return whether enough was learned of a series to evaluate it."""
        return series in self.row_of and bool(self.warm[self.row_of[series]])

    def thresholds(self, kind: SpikeKind, series: Series) -> AlertThresholds:
        """Return the thresholds for a pending alert that begins now; of an unknown series, those of the service."""
        row = self.row_of.get(series, 0)
        of_errors = kind == "error_ratio"
        return AlertThresholds(
            threshold_bin=0 if of_errors else int(self.threshold_bin[row]),
            very_bin=0 if of_errors else int(self.very_bin[row]),
            usual_share=float((self.error_share if of_errors else self.slow_share)[row]),
            very_share=0.0 if of_errors else float(self.very_share[row]),
            usual_ns=float(self.p95_ns[row]) if self.warm[row] else 0.0,
            cold_start=bool(self.cold[row]),
        )


def reference(baseline: Baseline, season_ns: float, config: SpikeConfig) -> Reference:
    """Return the thresholds that follow from a baseline. O(rows + bins).

    season_ns: usual P95 of the service at this hour of the week, 0 where unknown. The first row is that of the service;
    a baseline without it gets one with the cold-start thresholds.
    """
    sketches, known = Sketches.unpack(baseline.sketches), baseline.known
    if SERVICE not in sketches.keys:
        none = np.empty(0, np.int64)
        sketches = merge_sketches((Sketches((SERVICE,), np.zeros(1, np.int64), none, none), sketches), {})
        known = (SeriesHistory(), *known)
    windows, spans = (np.array([getattr(entry, name) for entry in known], np.int64) for name in ("windows", "spans"))
    weights = sketches.spans()
    is_call = np.array([key.dimension in CALL_DIMENSIONS for key in sketches.keys], np.bool_)
    cold = (windows < config.cold_windows) | (spans < config.cold_spans)
    warm = ~cold & (is_call | (weights < WHOLE_SHARE * weights[0]))
    warm[0] = windows[0] >= config.warm_windows and spans[0] >= config.warm_spans
    p95_ns = _p95_ns(sketches, weights)
    if p95_ns[0]:
        p95_ns = p95_ns * max(1.0, season_ns / p95_ns[0])
    least_ns = np.maximum(config.ratio_min * p95_ns, p95_ns + config.floor_ms * 1e6)
    threshold_bin = bin_from(np.where(warm, least_ns, config.guard_ms * 1e6))
    very_bin = np.where(windows > 0, bin_from(threshold_ns(threshold_bin) * config.very_ratio), threshold_bin)

    def upper_share(beyond: _Ints, margin: float, guard: float) -> _Floats:
        return np.where(warm, usual_share(beyond / WEIGHT_ONE, weights / WEIGHT_ONE, margin), guard)

    return Reference(
        row_of={key: row for row, key in enumerate(sketches.keys)},
        p95_ns=p95_ns,
        threshold_bin=threshold_bin,
        very_bin=very_bin,
        slow_share=upper_share(sketches.spans_from(threshold_bin), 2.0, _GUARD_SLOW),
        very_share=upper_share(sketches.spans_from(very_bin), 2.0, _GUARD_SLOW),
        error_share=upper_share(sketches.errors, 1.5, _GUARD_ERRORS),
        warm=warm,
        cold=cold,
    )


def _p95_ns(sketches: Sketches, weights: _Ints) -> _Floats:
    """Return the P95 of each row: that of the bin in which 95 % of the row's weight is reached."""
    if not len(sketches.codes):
        return np.zeros(len(weights))
    before = np.cumsum(weights) - weights
    wanted = before + np.maximum(1, np.ceil(0.95 * weights).astype(np.int64))
    cell = np.minimum(np.searchsorted(np.cumsum(sketches.counts), wanted), len(sketches.codes) - 1)
    return np.where(weights > 0, REPRESENTATIVE_NS[sketches.bins[cell]], 0.0)


def bin_from(threshold_ns: _Floats) -> _Ints:
    """Return the first coarse bin wholly at or above each threshold: a multiple of COARSE, at most BIN_OVER."""
    first_bin = np.searchsorted(EDGES_NS, threshold_ns, side="left") + 1
    return np.minimum(-(-first_bin // COARSE) * COARSE, BIN_OVER // COARSE * COARSE).astype(np.int64)


def threshold_ns(threshold_bin: _Ints) -> _Floats:
    """Return the duration from which a span is slow: the lower edge of each bin."""
    edges: _Floats = EDGES_NS[threshold_bin - 1].astype(np.float64)
    return edges
