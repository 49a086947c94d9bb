"""A service whose hosts run versions and images, and the insights about its deploys under the shipped settings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from jobs.graph import GraphConfig, stages
from operators.correlate.sequences import SequenceConfig
from operators.ingest.fold import FoldConfig, LogFold, TraceFold
from operators.runtime.local import LocalGraph
from state_schemas.aggregates.releases import HostRelease, ReleaseWindow
from state_schemas.contracts.insight import Insight
from state_schemas.state.deploys import DeployModel
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition, OffsetRange
from state_schemas.telemetry.resource import Resource
from tests.support.driving import insights
from tests.support.traffic import MS, WINDOW_MS, OneSpan, request_of_logs, request_of_spans
from udfs.detect.deploys.rule import DeployConfig, evaluate_releases
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.rules.compiled import RuleIndex

BEGIN_MS: Final = 1_700_000_400_000  # 22:20:00 UTC
OUT_OF_ORDER_MS: Final = 5_000
Runs = Callable[[str, int], str]
Reports = dict[int, set[HostRelease]]  # start of the window -> releases
INTERVAL_MS: Final = DeployConfig().interval_ms
AT: Final = (OffsetRange("trace_events", 0, 1, 2),)
_UIDS: Final = ("pre-aggregate-traces", "pre-aggregate-logs", "deploys")


@dataclass
class Service:
    """A service on the stages of deploys, or on all with rules. Times are in seconds after BEGIN_MS."""

    rules: RuleIndex | None = None
    emitted: list[Insight] = field(default_factory=list)
    _offset: int = 0

    def __post_init__(self) -> None:
        fold = FoldConfig(rules=self.rules)
        config = GraphConfig(fold=fold, rules=SequenceConfig(self.rules) if self.rules else None)
        self.graph = LocalGraph([stage for stage in stages(config) if self.rules or stage.uid in _UIDS])
        self._folds = TraceFold(fold), LogFold(fold)

    def run(self, hosts: int, runs: Runs, *, until_s: int, from_s: int = 0, every_s: int = 10) -> None:
        """Send a span of each host every so often. runs: version of a host at a time, "-" where it sends nothing."""
        for at_s in range(from_s, until_s, every_s):
            versions = {f"web-{number}": runs(f"web-{number}", at_s) for number in range(hosts)}
            self.spans(at_s, {host: version for host, version in versions.items() if version != "-"})
            self.until(at_s + 10)

    def spans(self, at_s: int, versions: dict[str, str], sent_s: int | None = None) -> None:
        """Send a message with a span of each host."""
        number = 1_000 * (self._offset + 1)
        found = [
            OneSpan("cart", BEGIN_MS + at_s * 1000 + 1, 20, number + index, host, version=version)
            for index, (host, version) in enumerate(versions.items())
        ]
        if found:
            self._feed(0, request_of_spans(found), at_s + 10 if sent_s is None else sent_s)

    def logs(self, at_s: int, resources: Iterable[Resource], body: str = "hello", severity: int = 9) -> None:
        """Send a log record of each resource."""
        time_ns = (BEGIN_MS + at_s * 1000 + 1) * MS
        records = [LogRecord(resource, time_ns, severity, "", body, "", (), "") for resource in resources]
        self._feed(1, request_of_logs(records), at_s + 10)

    def until(self, at_s: int) -> None:
        self._keep(self.graph.advance(BEGIN_MS + at_s * 1000 - OUT_OF_ORDER_MS))

    def finish(self) -> list[Insight]:
        """Return the last revision of each insight, in the order in which they opened."""
        self._keep(self.graph.finish())
        return list({insight.insight_id: insight for insight in self.emitted}.values())

    def statuses(self) -> list[str]:
        return [insight.status for insight in self.emitted]

    def _feed(self, fold: int, data: bytes, sent_s: int) -> None:
        self._offset += 1
        at = KafkaPosition(("trace_events", "logs_raw")[fold], 0, self._offset, BEGIN_MS + sent_s * 1000)
        message = self._folds[fold].fold(data, at).message
        assert message is not None
        self._keep(self.graph.feed([message]))

    def _keep(self, outputs: list[Any]) -> None:
        self.emitted += insights(outputs)


def resource(host: str, *, version: str = "", image: str = "", container: str = "") -> Resource:
    return Resource("prod", "cart", host, version=version, image=image, container=container)


def judged(reports: Reports) -> tuple[DeployModel, list[Insight]]:
    """Return the model of a service after all windows, and all candidates."""
    model, found = DeployModel(), list[Insight]()
    for start_ms in sorted(reports):
        table = ReleaseWindow(start_ms, tuple(sorted(reports[start_ms])), AT)
        window = ServiceWindow(ServiceKey("prod", "cart"), start_ms, start_ms + WINDOW_MS, table)
        model, candidates = evaluate_releases(model, window, DeployConfig())
        found += candidates
    return model, found
