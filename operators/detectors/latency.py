"""LatencySpike: roll-ups of one service, and insights when its latency or error ratio is out of line.

Driven by `SpanAggregate`; puts out `RollupRow`, `EdgeRow`, `EffectAggregate` and `InsightRevision`. State: blocks of
windows not yet written, reported windows that are not final, the baseline, the running episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from operators.detectors.latency_rows import emit_due
from operators.emission import EmissionConfig, Emitter, next_firing_ms
from operators.machine import END_OF_INPUT, Step
from operators.rollup_windows import next_due_ms, wait
from state_schemas.aggregates.requests import EffectAggregate
from state_schemas.aggregates.spans import SpanAggregate, SpanTable
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight, InsightRevision
from state_schemas.contracts.rows import EdgeRow, RollupRow
from state_schemas.state.latency import LATENCY_CODEC, LatencyModel, LatencyState
from state_schemas.telemetry.spans import ENTRY_KINDS
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.latency.rule import evaluate_spans, expire
from udfs.detect.requests.counts import effects_of_spans
from udfs.detect.service_window import ServiceWindow
from udfs.insights.ids import service_key, split_service_key
from udfs.spans.window import NameLimits, entry_table, merge_span_tables, span_count

Output = RollupRow | EdgeRow | EffectAggregate | InsightRevision


@dataclass(frozen=True, slots=True)
class LatencyConfig:
    """idle_ms: a key without spans for so long (event time) is forgotten, baseline included: not over a weekend."""

    spike: SpikeConfig = field(default_factory=SpikeConfig)
    emission: EmissionConfig = field(default_factory=EmissionConfig)
    names: NameLimits = field(default_factory=NameLimits)
    idle_ms: int = 8 * 24 * 3_600_000

    @property
    def fingerprint(self) -> str:
        """The parameters that state depends on: under others it cannot be continued."""
        return f"pane_ms={self.emission.window_ms} sketch=1141/1.0195"


class LatencySpike:
    """See the module. One state for each (env, service); at most `names` rows a window."""

    def __init__(self, config: LatencyConfig) -> None:
        self.config = config
        self._window_ms = config.emission.window_ms
        self._emitter: Emitter[LatencyModel, SpanTable] = Emitter(config.emission, lambda window: len(window.keys))

    def _merge(self, tables: Sequence[SpanTable]) -> SpanTable:
        return merge_span_tables(tables, self.config.names)

    @property
    def codec(self) -> Codec[LatencyState]:
        return LATENCY_CODEC

    def initial(self, key: str) -> LatencyState:
        env, service = split_service_key(key)
        return LatencyState(self.config.fingerprint, env, service)

    def on_event(self, state: LatencyState, event: SpanAggregate, watermark_ms: int) -> Step[LatencyState, Output]:
        counts: list[tuple[MetricName, int]] = []
        if state.fingerprint != self.config.fingerprint:
            state = self.initial(service_key(event.env, event.service))
            counts.append(("states_reset_total", 1))
        emission, behind = self.config.emission, 0
        for start_ms, late, table in event.windows:
            is_behind = not late and emission.is_final(start_ms, watermark_ms, state.model.last_end_ms)
            behind += span_count(table) if is_behind else 0
            wait(state.pending, (self._window_ms // 1000, start_ms, late or is_behind), table, self._merge)
            if not late:
                state.last_seen_ms = max(state.last_seen_ms, start_ms + self._window_ms)
        if behind:
            counts.append(("records_behind_total", behind))
        return Step(state, timer_at_ms=self._next_timer_ms(state, watermark_ms), counts=tuple(counts))

    def on_timer(self, state: LatencyState, now_ms: int) -> Step[LatencyState, Output]:
        due = emit_due(state, now_ms, self.config.names)
        effects: list[EffectAggregate] = []
        for start_ms, table in due.windows:
            entry = entry_table(table, ENTRY_KINDS)
            known = state.windows.get(start_ms)
            effects += effects_of_spans(state.env, state.service, start_ms, table)
            state.windows[start_ms] = merge_span_tables([known, entry], self.config.names) if known else entry
        state.model, insights = self._emitter.advance(
            service_key(state.env, state.service),
            _Evaluator(state.env, state.service, self.config),
            state.model,
            state.windows,
            state.emitted,
            now_ms,
        )
        counts: tuple[tuple[MetricName, int], ...] = (
            ("names_overflowed_total", due.names_over),
            ("insights_emitted_total", len(insights)),
        )
        if self._is_over(state, now_ms):
            if now_ms != END_OF_INPUT:
                expired = expire(state.model, state.env, state.service)
                insights += self._emitter.conclude(state.emitted, expired)
            return Step(None, (*due.rows, *effects, *insights), None, (*counts, ("states_forgotten_total", 1)))
        return Step(state, (*due.rows, *effects, *insights), self._next_timer_ms(state, now_ms), counts)

    def _is_over(self, state: LatencyState, now_ms: int) -> bool:
        idle = now_ms >= self._forget_ms(state)
        return now_ms == END_OF_INPUT or (idle and not state.pending and not state.windows)

    def _next_timer_ms(self, state: LatencyState, now_ms: int) -> int:
        emission = next_firing_ms(self.config.emission, state.windows, now_ms)
        # A key is forgotten only when nothing waits. Asking for it earlier would be a timer for each millisecond until
        # the last window ends, where only late spans were ever seen and last_seen_ms is 0.
        candidates = [at_ms for at_ms in (next_due_ms(state.pending), emission) if at_ms is not None]
        # What is due already goes out with the next move of event time, together with what else comes until then.
        return max(now_ms + 1, min(candidates, default=self._forget_ms(state)))

    def _forget_ms(self, state: LatencyState) -> int:
        return self.config.emission.forget_ms(state.last_seen_ms, self.config.idle_ms)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """One window of entry spans against what was learned."""

    env: str
    service: str
    config: LatencyConfig

    def __call__(self, model: LatencyModel, start_ms: int, window: SpanTable) -> tuple[LatencyModel, list[Insight]]:
        end_ms = start_ms + self.config.emission.window_ms
        candidates: list[Insight] = []
        if self.config.emission.is_forgotten(model.last_end_ms, start_ms, self.config.idle_ms):
            candidates += expire(model, self.env, self.service)
            model = LatencyModel()
        if not window.keys:  # spans of other kinds only: nothing was answered, so nothing can be slow
            return msgspec.structs.replace(model, last_end_ms=end_ms), candidates
        spans = ServiceWindow(self.env, self.service, start_ms, end_ms, window)
        model, more = evaluate_spans(model, spans, self.config.spike, self.config.names)
        return model, candidates + more
