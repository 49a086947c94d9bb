"""Request effect detector: a line that is missing, a call that is missing or made too often.

That a line or call is missing can only be concluded from a complete window: windows are evaluated once, when they are
final, and no insight is retracted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

from operators.emission import EmissionConfig
from operators.windowed import Evaluated, WindowedDetector, WindowPart
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.requests import EffectAggregate, EffectWindow
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.state.requests import EFFECTS_CODEC, EffectModel
from udfs.detect.requests.counts import merge_effect_windows
from udfs.detect.requests.rule import EffectConfig, evaluate_effects, expire_effects
from udfs.detect.service_window import ServiceKey, ServiceWindow

Output = LoggingWindows | Insight | DeadLetter


class RequestEffects(WindowedDetector[EffectModel, EffectWindow, EffectAggregate, Output]):
    """Request effect detector. One state for each (env, service).

    It holds EFFECTS_MAX effects, and UNKNOWN_MAX more for each waiting window.
    """

    takes = (EffectAggregate,)
    gives = get_args(Output)
    codec = EFFECTS_CODEC
    empty = EffectModel

    def __init__(self, config: EffectConfig, emission: EmissionConfig) -> None:
        super().__init__(replace(emission, evaluate_early=False), config.idle_ms, "effects=1")
        self.config = config

    def parts(self, event: EffectAggregate, model: EffectModel) -> Iterator[WindowPart[EffectWindow]]:
        return (WindowPart(start_ms, False, window) for start_ms, window in event.windows)

    def records(self, aggregate: EffectWindow) -> int:
        return sum(aggregate.requests.values()) + sum(aggregate.effects.values())

    def names(self, aggregate: EffectWindow) -> int:
        return len(aggregate.effects)

    def merge(self, start_ms: int, parts: Sequence[EffectWindow], model: EffectModel) -> EffectWindow:
        known = frozenset(model.rates.names)
        merged, *others = parts
        for part in others or (EffectWindow(),):  # a single part has to be limited as well
            merged = merge_effect_windows(merged, part, known, start_ms)
        return merged

    def evaluate(self, window: ServiceWindow[EffectWindow], model: EffectModel) -> tuple[EffectModel, list[Insight]]:
        return evaluate_effects(model, window, self.config)

    def expire(self, key: ServiceKey, model: EffectModel) -> list[Insight]:
        return expire_effects(model, key, self.config)

    def outputs(self, evaluated: Evaluated[EffectModel]) -> Iterator[Output]:
        """Yield revisions; those of missing lines go to `LogSilence`, inside a `LoggingWindows`."""
        for insight in evaluated.revisions:
            is_line = insight.kind == "pattern_missing"
            yield LoggingWindows(insight.env, revision=insight) if is_line else insight
