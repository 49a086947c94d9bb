"""What is normal for a service, and whether a pane of spans is out of line with it.

The test is a cumulative sum of log-likelihood ratios (Page, Biometrika 41, 1954) over the *share* of spans beyond a
threshold, not over the P95 itself: the P95 of five spans is their maximum, while five spans of which one is slow are
little evidence, and are weighed as such.
"""

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from state_schemas.latency import WEIGHT_ONE, Baseline
from udfs.sketch import REPRESENTATIVE_NS, quantile_ns

DECAY_SHIFT: Final = 8  # a pane weighs half after 177 further panes: half an hour of 10 s panes with traffic


@dataclass(frozen=True, slots=True)
class SpikeConfig:
    """When a service's latency or error ratio is out of line. Ratios and shares 0..1 unless said otherwise.

    ratio_min, floor_ms: slow is beyond max(ratio_min x usual P95, usual P95 + floor_ms).
    guard_ms: slow while there is no baseline yet. score_open, score_close: nats to open and to close; pane_score_max:
    what one pane can add at most, so that at least score_open / pane_score_max panes must agree.
    warm_panes, warm_spans: learnt before the baseline is used; cold_panes, cold_spans: until then `cold_start` is said.
    accept_ms: a level that lasts this long is the new normal. error_ratio_step: smallest rise that matters.
    """

    ratio_min: float = 1.5
    floor_ms: float = 5.0
    guard_ms: float = 10_000.0
    score_open: float = 12.0
    score_close: float = 8.0
    pane_score_max: float = 4.0
    warm_panes: int = 6
    warm_spans: int = 50
    cold_panes: int = 30
    cold_spans: int = 300
    accept_ms: int = 1_800_000
    error_ratio_step: float = 0.05


def learn(baseline: Baseline, bins: NDArray[np.int64], counts: NDArray[np.int64], errors: int) -> Baseline:
    """The baseline after one more normal pane. Integers only: the same panes give the same bytes everywhere."""
    old = np.array(baseline.weights, dtype=np.int64)
    kept = old - (old >> DECAY_SHIFT)
    all_bins = np.concatenate((np.array(baseline.bins, dtype=np.int64), bins))
    places, inverse = np.unique(all_bins, return_inverse=True)
    weights = np.zeros(len(places), np.int64)
    np.add.at(weights, inverse, np.concatenate((kept, counts * WEIGHT_ONE)))
    # A bin that has decayed below a hundredth of a span says nothing any more; dropping it bounds the state.
    alive = weights > WEIGHT_ONE // 100
    return Baseline(
        bins=tuple(places[alive].tolist()),
        weights=tuple(weights[alive].tolist()),
        error_weight=baseline.error_weight - (baseline.error_weight >> DECAY_SHIFT) + errors * WEIGHT_ONE,
        panes=baseline.panes + 1,
        spans=baseline.spans + int(counts.sum()),
    )


def is_warm(baseline: Baseline, config: SpikeConfig) -> bool:
    """Enough was learnt to judge by it."""
    return baseline.panes >= config.warm_panes and baseline.spans >= config.warm_spans


def is_cold(baseline: Baseline, config: SpikeConfig) -> bool:
    """So little was learnt that an insight must say so."""
    return baseline.panes < config.cold_panes or baseline.spans < config.cold_spans


def usual_p95_ns(baseline: Baseline) -> float:
    """P95 of the baseline; the baseline must have spans."""
    return quantile_ns(np.array(baseline.bins, np.int64), np.array(baseline.weights, np.int64), 0.95)


def slow_threshold_ns(baseline: Baseline, config: SpikeConfig) -> float:
    """From where on a span is slow for this service."""
    if not is_warm(baseline, config):
        return config.guard_ms * 1e6
    usual = usual_p95_ns(baseline)
    return max(config.ratio_min * usual, usual + config.floor_ms * 1e6)


def slow_shares(baseline: Baseline, threshold_ns: float, config: SpikeConfig) -> tuple[float, float]:
    """(usual, alarm): the share of slow spans under "all is well" and under "it is slow".

    usual is twice the share seen, plus 1 %: panes of one service vary more than independent spans would.
    alarm is at least 20 %, so that the P95 itself has moved far, not just its neighbourhood.
    """
    seen = 0.0
    if is_warm(baseline, config):
        weights = np.array(baseline.weights, np.int64)
        above = REPRESENTATIVE_NS[np.array(baseline.bins, np.int64)] > threshold_ns
        seen = float(weights[above].sum()) / float(weights.sum())
    usual = min(0.25, 2 * seen + 0.01)
    return usual, max(0.2, 2 * usual)


def error_shares(baseline: Baseline, config: SpikeConfig) -> tuple[float, float]:
    """(usual, alarm) shares of spans with an error; an unknown baseline is taken as 5 %."""
    seen = 0.05
    if is_warm(baseline, config):
        seen = baseline.error_weight / max(1, sum(baseline.weights))
    # Where most spans fail anyway the two shares meet, and no pane is evidence of anything.
    usual = min(0.9, 1.5 * seen + 0.01)
    return usual, min(0.9, usual + max(config.error_ratio_step, usual))


def evidence_nats(spans: int, beyond: int, usual: float, alarm: float, limit: float) -> float:
    """Log-likelihood ratio of "alarm" against "usual" for `beyond` of `spans`, held within ±limit."""
    ratio = beyond * log(alarm / usual) + (spans - beyond) * log((1 - alarm) / (1 - usual))
    return max(-limit, min(limit, ratio))
