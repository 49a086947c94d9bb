"""LatencySpike: roll-ups of one service, and insights when its latency or error ratio is out of line.

Driven by `SpanPartial`; puts out `RollupRow`, `EdgeRow`, `ShapePartial` and `InsightRevision`. State: blocks of
windows not yet written, reported panes that are not final, the baseline, the running episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from operators.detectors.latency_rows import emit_due
from operators.emission import FrontierConfig, TwoFrontiers, next_frontier_ms
from operators.machine import END_OF_INPUT, Step
from operators.rollup_windows import next_due_ms, wait
from state_schemas.aggregates.requests import ShapePartial
from state_schemas.aggregates.spans import SpanBlock, SpanPartial
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight, InsightRevision
from state_schemas.contracts.rows import EdgeRow, RollupRow
from state_schemas.state.latency import LATENCY_CODEC, LatencyState, Learnt
from state_schemas.telemetry.spans import ENTRY_KINDS
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.latency.rule import PaneOfSpans, expire, watch_pane
from udfs.detect.requests.counts import shapes_of_spans
from udfs.insights.ids import service_key, split_service_key
from udfs.spans.window import NameLimits, entry_pane, merge_blocks, span_count

Output = RollupRow | EdgeRow | ShapePartial | InsightRevision


@dataclass(frozen=True, slots=True)
class LatencyConfig:
    """idle_ms: a key without spans for so long (event time) is forgotten, baseline included: not over a weekend."""

    spike: SpikeConfig = field(default_factory=SpikeConfig)
    frontier: FrontierConfig = field(default_factory=FrontierConfig)
    names: NameLimits = field(default_factory=NameLimits)
    idle_ms: int = 8 * 24 * 3_600_000

    @property
    def meaning(self) -> str:
        """The parameters that state depends on: under others it cannot be continued."""
        return f"pane_ms={self.frontier.pane_ms} sketch=1141/1.0195"


class LatencySpike:
    """See the module. One state for each (env, service); at most `names` rows a window."""

    def __init__(self, config: LatencyConfig) -> None:
        self.config = config
        self._pane_ms = config.frontier.pane_ms
        self._frontiers: TwoFrontiers[Learnt, SpanBlock] = TwoFrontiers(config.frontier, lambda pane: len(pane.keys))

    def _merge(self, blocks: Sequence[SpanBlock]) -> SpanBlock:
        return merge_blocks(blocks, self.config.names)

    @property
    def codec(self) -> Codec[LatencyState]:
        return LATENCY_CODEC

    def initial(self, key: str) -> LatencyState:
        env, service = split_service_key(key)
        return LatencyState(self.config.meaning, env, service)

    def on_event(self, state: LatencyState, event: SpanPartial, watermark_ms: int) -> Step[LatencyState, Output]:
        counts: list[tuple[MetricName, int]] = []
        if state.meaning != self.config.meaning:
            state = self.initial(service_key(event.env, event.service))
            counts.append(("states_reset_total", 1))
        frontier, behind = self.config.frontier, 0
        for start_ms, late, block in event.panes:
            is_behind = not late and frontier.is_final(start_ms, watermark_ms, state.learnt.last_end_ms)
            behind += span_count(block) if is_behind else 0
            wait(state.pending, (self._pane_ms // 1000, start_ms, late or is_behind), block, self._merge)
            if not late:
                state.last_seen_ms = max(state.last_seen_ms, start_ms + self._pane_ms)
        if behind:
            counts.append(("records_behind_total", behind))
        return Step(state, wake_at_ms=self._next_wake_ms(state, watermark_ms), counts=tuple(counts))

    def on_wake(self, state: LatencyState, now_ms: int) -> Step[LatencyState, Output]:
        due = emit_due(state, now_ms, self.config.names)
        shapes: list[ShapePartial] = []
        for start_ms, block in due.panes:
            entry = entry_pane(block, ENTRY_KINDS)
            known = state.panes.get(start_ms)
            shapes += shapes_of_spans(state.env, state.service, start_ms, block)
            state.panes[start_ms] = merge_blocks([known, entry], self.config.names) if known else entry
        state.learnt, insights = self._frontiers.advance(
            service_key(state.env, state.service),
            _Evaluator(state.env, state.service, self.config),
            state.learnt,
            state.panes,
            state.announced,
            now_ms,
        )
        counts: tuple[tuple[MetricName, int], ...] = (
            ("names_overflowed_total", due.names_over),
            ("insights_emitted_total", len(insights)),
        )
        if self._is_over(state, now_ms):
            if now_ms != END_OF_INPUT:
                gone = expire(state.learnt, state.env, state.service)
                insights += self._frontiers.conclude(state.announced, gone)
            return Step(None, (*due.rows, *shapes, *insights), None, (*counts, ("states_forgotten_total", 1)))
        return Step(state, (*due.rows, *shapes, *insights), self._next_wake_ms(state, now_ms), counts)

    def _is_over(self, state: LatencyState, now_ms: int) -> bool:
        idle = now_ms >= self._forget_ms(state)
        return now_ms == END_OF_INPUT or (idle and not state.pending and not state.panes)

    def _next_wake_ms(self, state: LatencyState, now_ms: int) -> int:
        frontier = next_frontier_ms(self.config.frontier, state.panes, now_ms)
        # A key is forgotten only when nothing waits. Asking for it earlier would be a wake for each millisecond until
        # the last window ends, where only late spans were ever seen and last_seen_ms is 0.
        candidates = [at_ms for at_ms in (next_due_ms(state.pending), frontier) if at_ms is not None]
        # What is due already goes out with the next move of event time, together with what else comes until then.
        return max(now_ms + 1, min(candidates, default=self._forget_ms(state)))

    def _forget_ms(self, state: LatencyState) -> int:
        return self.config.frontier.forget_ms(state.last_seen_ms, self.config.idle_ms)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """One pane of entry spans against what was learnt."""

    env: str
    service: str
    config: LatencyConfig

    def __call__(self, learnt: Learnt, start_ms: int, pane: SpanBlock) -> tuple[Learnt, list[Insight]]:
        end_ms = start_ms + self.config.frontier.pane_ms
        drafts: list[Insight] = []
        if self.config.frontier.is_forgotten(learnt.last_end_ms, start_ms, self.config.idle_ms):
            drafts += expire(learnt, self.env, self.service)
            learnt = Learnt()
        if not pane.keys:  # spans of other kinds only: nothing was answered, so nothing can be slow
            return msgspec.structs.replace(learnt, last_end_ms=end_ms), drafts
        spans = PaneOfSpans(self.env, self.service, start_ms, end_ms, pane)
        learnt, more = watch_pane(learnt, spans, self.config.spike, self.config.names)
        return learnt, drafts + more
