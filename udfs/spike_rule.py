"""The spike rule: one pane of entry spans moves a service's baseline, its two watches, and what they announce.

A watch collects evidence pane by pane (`udfs.baseline`). Enough of it opens an episode, enough against it closes the
episode; what stays longer than `accept_ms` is the new normal. Panes under suspicion are not learnt unless it passes.
"""

from collections.abc import Iterable
from typing import NamedTuple

from state_schemas.insights import Insight, Status
from state_schemas.latency import Baseline, Learnt, Watch
from state_schemas.partials import SpanBlock
from udfs.baseline import (
    SpikeConfig,
    error_shares,
    evidence_nats,
    is_cold,
    is_warm,
    learn,
    slow_shares,
    slow_threshold_ns,
    usual_p95_ns,
)
from udfs.partials import NameLimits, Row, merge_blocks, service_row
from udfs.sketch import count_above, quantile_ns
from udfs.spike_report import SpikeKind, report


class PaneOfSpans(NamedTuple):
    """Entry spans of a service in [start_ms, end_ms). total: all of them as one row, at least one span."""

    env: str
    service: str
    start_ms: int
    end_ms: int
    block: SpanBlock
    total: Row


def watch_pane(learnt: Learnt, pane: PaneOfSpans, config: SpikeConfig, names: NameLimits) -> Iterable[Insight]:
    """Changes `learnt` in place; returns what this pane announces, at most one draft of each kind. O(rows + bins)."""
    drafts = []
    kinds: tuple[SpikeKind, ...] = ("latency_spike", "error_ratio")
    for kind in kinds:
        watch = learnt.latency if kind == "latency_spike" else learnt.errors
        if watch.block is None:
            _hypothesis(kind, watch, learnt.baseline, config)
        if watch.panes_open:
            status, reason = _follow(kind, watch, pane, config, names)
        else:
            status, reason = _suspect(kind, watch, pane, learnt, config, names)
        if status:
            drafts.append(report(kind, pane.env, pane.service, watch, status, reason))
        if status == "closed":
            if reason == ACCEPTED:
                # As warm as the episode was long: a baseline that counts as new would suspect the accepted level again.
                warm = Baseline(panes=max(config.warm_panes, watch.panes_open))
                learnt.baseline = _learn_block(warm, watch.block)
            _reset(learnt, kind)
    if learnt.latency.block is None and learnt.errors.block is None:
        learnt.baseline = learn(learnt.baseline, pane.total.bins, pane.total.counts, pane.total.errors)
    return drafts


def expire(learnt: Learnt, env: str, service: str) -> list[Insight]:
    """Forgets everything in place; returns the closing drafts of what was open."""
    watches: tuple[tuple[SpikeKind, Watch], ...] = (("latency_spike", learnt.latency), ("error_ratio", learnt.errors))
    drafts = [report(kind, env, service, watch, "closed", GONE) for kind, watch in watches if watch.panes_open]
    learnt.baseline, learnt.latency, learnt.errors = Baseline(), Watch(), Watch()
    return drafts


GONE = "no more spans"
ACCEPTED = "the level has stayed: it is the new normal"
RECOVERED = "back to usual"


def _reset(learnt: Learnt, kind: SpikeKind) -> None:
    if kind == "latency_spike":
        learnt.latency = Watch()
    else:
        learnt.errors = Watch()


def _hypothesis(kind: SpikeKind, watch: Watch, baseline: Baseline, config: SpikeConfig) -> None:
    """Freeze what the coming evidence is weighed against, so that it cannot move its own measure."""
    watch.cold_start = is_cold(baseline, config)
    if kind == "error_ratio":
        watch.usual_share, watch.alarm_share = error_shares(baseline, config)
        return
    watch.threshold_ns = slow_threshold_ns(baseline, config)
    watch.usual_ns = usual_p95_ns(baseline) if is_warm(baseline, config) else 0.0
    watch.usual_share, watch.alarm_share = slow_shares(baseline, watch.threshold_ns, config)


def _evidence(kind: SpikeKind, watch: Watch, total: Row, config: SpikeConfig) -> float:
    beyond = total.errors if kind == "error_ratio" else count_above(total.bins, total.counts, watch.threshold_ns)
    return evidence_nats(total.spans, beyond, watch.usual_share, watch.alarm_share, config.pane_score_max)


def _suspect(
    kind: SpikeKind, watch: Watch, pane: PaneOfSpans, learnt: Learnt, config: SpikeConfig, names: NameLimits
) -> tuple[Status | None, str]:
    """Not open yet: collect, open, or let go."""
    nats = _evidence(kind, watch, pane.total, config)
    watch.score = max(0.0, watch.score + nats)
    stale = watch.block is not None and pane.end_ms - watch.start_ms > config.accept_ms
    if watch.score == 0.0 or stale:
        if watch.block is not None:
            learnt.baseline = _learn_block(learnt.baseline, _joined(watch, None, names))
        _reset(learnt, kind)
        return None, ""
    if watch.block is None:
        watch.start_ms = pane.start_ms
    _collect(watch, pane, nats, names)
    if watch.score < config.score_open or not _is_large(kind, watch):
        return None, ""
    watch.panes_open = 1
    return "open", ""


def _follow(
    kind: SpikeKind, watch: Watch, pane: PaneOfSpans, config: SpikeConfig, names: NameLimits
) -> tuple[Status | None, str]:
    """Open: close it, accept it, or say how it goes at 3, 6, 12, 24 ... panes."""
    nats = _evidence(kind, watch, pane.total, config)
    watch.recovery = max(0.0, watch.recovery - nats)
    _collect(watch, pane, nats, names)
    watch.panes_open += 1
    if watch.recovery >= config.score_close:
        return "closed", RECOVERED
    if watch.end_ms - watch.start_ms >= config.accept_ms:
        return "closed", ACCEPTED
    thirds, rest = divmod(watch.panes_open, 3)
    if rest == 0 and thirds & (thirds - 1) == 0:
        return "updated", ""
    return None, ""


def _collect(watch: Watch, pane: PaneOfSpans, nats: float, names: NameLimits) -> None:
    """The block ends with the last pane that spoke for the anomaly: its window and its numbers then agree."""
    if nats > 0:
        watch.block = _joined(watch, pane.block, names)
        watch.tail = None
        watch.end_ms = pane.end_ms
    else:
        watch.tail = merge_blocks([watch.tail, pane.block], names) if watch.tail else pane.block


def _joined(watch: Watch, block: SpanBlock | None, names: NameLimits) -> SpanBlock:
    return merge_blocks([part for part in (watch.block, watch.tail, block) if part is not None], names)


def _is_large(kind: SpikeKind, watch: Watch) -> bool:
    """The P95 of the whole episode is slow, not just a share of it larger than usual."""
    if kind == "error_ratio" or watch.block is None:
        return True
    total = service_row(watch.block)
    return quantile_ns(total.bins, total.counts, 0.95) > watch.threshold_ns


def _learn_block(baseline: Baseline, block: SpanBlock | None) -> Baseline:
    assert block is not None, "an episode without spans cannot be learnt"
    total = service_row(block)
    return learn(baseline, total.bins, total.counts, total.errors)
