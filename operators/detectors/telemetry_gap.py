"""No-data detector: a service, a signal type or a whole environment that was active sends no records.

Events are `EnvActivity`, outputs `Insight`.
"""

from collections.abc import Iterator, Sequence
from typing import get_args

from operators.emission import EmissionConfig
from operators.windowed import WindowedDetector, WindowPart
from state_schemas.aggregates.activity import ActivityWindow, EnvActivity
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.state.telemetry_gap import GAP_CODEC, ActivityModel
from udfs.activity import merge_activity
from udfs.detect.service_window import ServiceWindow
from udfs.detect.telemetry_gap.rule import GapConfig, evaluate_activity

Output = Insight | DeadLetter


class TelemetryGap(WindowedDetector[ActivityModel, ActivityWindow, EnvActivity, Output]):
    """No-data detector. One state for each environment; pre-aggregation limits the services in it."""

    takes = (EnvActivity,)
    gives = get_args(Output)
    codec = GAP_CODEC
    empty = ActivityModel

    def __init__(self, config: GapConfig, emission: EmissionConfig) -> None:
        super().__init__(emission, config.idle_ms, "activity=1")
        self.config = config

    def parts(self, event: EnvActivity, model: ActivityModel) -> Iterator[WindowPart[ActivityWindow]]:
        return (WindowPart(window.start_ms, False, window) for window in event.windows)

    def records(self, aggregate: ActivityWindow) -> int:
        return sum(active.records for active in aggregate.seen)

    def names(self, aggregate: ActivityWindow) -> int:
        return len(aggregate.seen)

    def merge(self, start_ms: int, parts: Sequence[ActivityWindow], model: ActivityModel) -> ActivityWindow:
        (merged,) = merge_activity(parts)
        return merged

    def evaluate(
        self, window: ServiceWindow[ActivityWindow], model: ActivityModel
    ) -> tuple[ActivityModel, list[Insight]]:
        return evaluate_activity(model, window, self.config)
