"""Detector of deploys: a service runs another version or image. Events are `ServiceReleases`, outputs `Insight`."""

from collections.abc import Iterator, Sequence
from typing import get_args

from operators.emission import EmissionConfig
from operators.windowed import Counts, Evaluated, WindowedDetector, WindowPart
from state_schemas.aggregates.releases import ReleaseWindow, ServiceReleases
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.state.deploys import DEPLOYS_CODEC, DeployModel
from udfs.detect.deploys.rule import DeployConfig, evaluate_releases, expire
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.releases import merge_release_windows

Output = Insight | DeadLetter


class Deploys(WindowedDetector[DeployModel, ReleaseWindow, ServiceReleases, Output]):
    """Detector of deploys. One state for each service."""

    takes = (ServiceReleases,)
    gives = get_args(Output)
    codec = DEPLOYS_CODEC
    empty = DeployModel

    def __init__(self, config: DeployConfig, emission: EmissionConfig) -> None:
        super().__init__(emission, config.idle_ms, f"interval_ms={config.interval_ms}")
        self.config = config

    def parts(self, event: ServiceReleases, model: DeployModel) -> Iterator[WindowPart[ReleaseWindow]]:
        return (WindowPart(window.start_ms, False, window) for window in event.windows)

    def records(self, aggregate: ReleaseWindow) -> int:
        return 0  # reports are no records: those of records that are behind are counted by the other detectors

    def names(self, aggregate: ReleaseWindow) -> int:
        return len(aggregate.seen)

    def merge(self, start_ms: int, parts: Sequence[ReleaseWindow], model: DeployModel) -> ReleaseWindow:
        (merged,) = merge_release_windows(parts)
        return merged

    def evaluate(self, window: ServiceWindow[ReleaseWindow], model: DeployModel) -> tuple[DeployModel, list[Insight]]:
        return evaluate_releases(model, window, self.config)

    def expire(self, key: ServiceKey, model: DeployModel) -> list[Insight]:
        return expire(key, model)

    def counts(self, evaluated: Evaluated[DeployModel]) -> Counts:
        return (("deploys_suppressed_total", max(0, evaluated.after.suppressed - evaluated.before.suppressed)),)
