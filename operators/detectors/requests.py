"""RequestEffects: a line that stopped coming, a call that is no longer made or made too often, seen against requests.

Driven by `EffectAggregate` of traces and of logs; puts out `InsightRevision`, about lines as `LoggingWindows`. What is
missing can only be told of a window to which nothing more can come: windows are judged when they are final, once, and
nothing is ever retracted. State: windows that are not final, what is usual, the running episodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from operators.emission import EmissionConfig, Emitter
from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.requests import EffectAggregate, EffectWindow
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight, InsightRevision, from_json
from state_schemas.state.requests import EFFECTS_CODEC, EffectModel, EffectState
from udfs.detect.requests.counts import merge_effect_windows
from udfs.detect.requests.rule import EffectConfig, evaluate_effects, expire_effects
from udfs.detect.service_window import ServiceWindow
from udfs.insights.ids import service_key, split_service_key

Output = LoggingWindows | InsightRevision


@dataclass(frozen=True, slots=True)
class RequestEffectsConfig:
    """idle_ms: a key without requests for so long is forgotten."""

    rule: EffectConfig = field(default_factory=EffectConfig)
    emission: EmissionConfig = field(default_factory=EmissionConfig)
    idle_ms: int = 8 * 24 * 3_600_000

    @property
    def fingerprint(self) -> str:
        """The parameters that state depends on: under others it cannot be continued."""
        return f"pane_ms={self.emission.window_ms} shapes=1"


class RequestEffects:
    """See the module. One state for each (env, service): EFFECTS_MAX shapes, and UNKNOWN_MAX more a waiting window."""

    def __init__(self, config: RequestEffectsConfig) -> None:
        self.config = config
        final = replace(config.emission, emit_when="final")
        self._emitter: Emitter[EffectModel, EffectWindow] = Emitter(final, lambda window: len(window.effects))

    @property
    def codec(self) -> Codec[EffectState]:
        return EFFECTS_CODEC

    def initial(self, key: str) -> EffectState:
        env, service = split_service_key(key)
        return EffectState(self.config.fingerprint, env, service)

    def on_event(self, state: EffectState, event: EffectAggregate, watermark_ms: int) -> Step[EffectState, Output]:
        counts: list[tuple[MetricName, int]] = []
        if state.fingerprint != self.config.fingerprint:
            state = self.initial(service_key(event.env, event.service))
            counts.append(("states_reset_total", 1))
        emission, behind = self.config.emission, 0
        known = frozenset(state.model.rates.names)
        for start_ms, window in event.windows:
            if emission.is_final(start_ms, watermark_ms, state.model.last_end_ms):
                behind += sum(window.requests.values()) + sum(window.effects.values())
                continue
            state.windows[start_ms] = merge_effect_windows(
                state.windows.get(start_ms, EffectWindow()), window, known, start_ms
            )
            state.last_seen_ms = max(state.last_seen_ms, start_ms + emission.window_ms)
        counts.append(("records_behind_total", behind))
        return Step(state, (), self._next_timer_ms(state, watermark_ms), tuple(counts))

    def on_timer(self, state: EffectState, now_ms: int) -> Step[EffectState, Output]:
        state.model, out = self._emitter.advance(
            service_key(state.env, state.service),
            _Evaluator(state.env, state.service, self.config),
            state.model,
            state.windows,
            state.emitted,
            now_ms,
        )
        if now_ms == END_OF_INPUT or (not state.windows and now_ms >= self._forget_ms(state)):
            if now_ms != END_OF_INPUT:
                expired = expire_effects(state.model, state.env, state.service)
                out += self._emitter.conclude(state.emitted, expired)
            counts: tuple[tuple[MetricName, int], ...] = (
                ("insights_emitted_total", len(out)),
                ("states_forgotten_total", 1),
            )
            return Step(None, _routed(out), None, counts)
        return Step(state, _routed(out), self._next_timer_ms(state, now_ms), (("insights_emitted_total", len(out)),))

    def _next_timer_ms(self, state: EffectState, now_ms: int) -> int:
        final_ms = min((self.config.emission.final_ms(start_ms) for start_ms in state.windows), default=None)
        return max(now_ms + 1, self._forget_ms(state) if final_ms is None else final_ms)

    def _forget_ms(self, state: EffectState) -> int:
        return self.config.emission.forget_ms(state.last_seen_ms, self.config.idle_ms)


def _routed(revisions: tuple[InsightRevision, ...]) -> tuple[Output, ...]:
    """Those of missing lines by way of `LogSilence`."""
    out: list[Output] = []
    for revision in revisions:
        insight = from_json(revision.body)
        is_line = insight.kind == "pattern_missing"
        out.append(LoggingWindows(insight.env, (), insight.window.end_ms, revision) if is_line else revision)
    return tuple(out)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """One window against what is usual."""

    env: str
    service: str
    config: RequestEffectsConfig

    def __call__(
        self, model: EffectModel, start_ms: int, window: EffectWindow
    ) -> tuple[EffectModel, Iterator[Insight]]:
        end_ms = start_ms + self.config.emission.window_ms
        candidates: list[Insight] = []
        if self.config.emission.is_forgotten(model.last_end_ms, start_ms, self.config.idle_ms):
            candidates += expire_effects(model, self.env, self.service)
            model = EffectModel()
        now = ServiceWindow(self.env, self.service, start_ms, end_ms, window)
        model, more = evaluate_effects(model, now, self.config.rule)
        return model, iter((*candidates, *more))
