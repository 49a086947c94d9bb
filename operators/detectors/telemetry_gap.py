"""No-data detector: a service, a signal type or a whole environment that was active sends no records.

Events are `EnvActivity`, outputs `Insight`.
"""

from collections.abc import Iterator, Sequence
from typing import get_args

from operators.emission import EmissionConfig
from operators.windowed import WindowedDetector, WindowPart
from state_schemas.aggregates.activity import EnvActivity
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.state.telemetry_gap import GAP_CODEC, ActivityModel, WindowActivity
from udfs.activity import merge_ranges
from udfs.detect.service_window import ServiceWindow
from udfs.detect.telemetry_gap.rule import GapConfig, evaluate_activity

Output = Insight | DeadLetter


class TelemetryGap(WindowedDetector[ActivityModel, WindowActivity, EnvActivity, Output]):
    """No-data detector. One state for each environment; pre-aggregation limits the services in it."""

    takes = (EnvActivity,)
    gives = get_args(Output)
    codec = GAP_CODEC
    empty = ActivityModel

    def __init__(self, config: GapConfig, emission: EmissionConfig) -> None:
        super().__init__(emission, config.idle_ms, "activity=1")
        self.config = config

    def parts(self, event: EnvActivity, model: ActivityModel) -> Iterator[WindowPart[WindowActivity]]:
        for window in event.windows:
            seen = {f"{active.signal}|{active.service}": active.records for active in window.seen}
            yield WindowPart(window.start_ms, False, WindowActivity(seen, window.ranges))

    def records(self, aggregate: WindowActivity) -> int:
        return sum(aggregate.seen.values())

    def names(self, aggregate: WindowActivity) -> int:
        return len(aggregate.seen)

    def merge(self, start_ms: int, parts: Sequence[WindowActivity], model: ActivityModel) -> WindowActivity:
        seen: dict[str, int] = {}
        for part in parts:
            for name, records in part.seen.items():
                seen[name] = seen.get(name, 0) + records
        return WindowActivity(seen, merge_ranges(offsets for part in parts for offsets in part.ranges))

    def evaluate(
        self, window: ServiceWindow[WindowActivity], model: ActivityModel
    ) -> tuple[ActivityModel, list[Insight]]:
        return evaluate_activity(model, window, self.config)
