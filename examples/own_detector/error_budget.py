"""Error budget detector: more requests of a service have failed in the last hour than its budget allows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from jobs.graph import BY_SERVICE
from operators.emission import EmissionConfig
from operators.machine import Stage
from operators.windowed import Counts, Evaluated, WindowedDetector, WindowPart
from state_schemas.aggregates.spans import DIMENSION_SERVICE, Exemplar, SpanAggregate
from state_schemas.codec import Codec, zipped
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Evidence, Insight, TraceExemplar, Window
from state_schemas.state.detector import DetectorState, RollupWindow
from state_schemas.telemetry.spans import ENTRY_KINDS
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.insights.ids import insight_id
from udfs.spans.window import merge_slowest, rows

SUBJECT: Final = "error budget"


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """Settings of the detector."""

    # Share of the requests that may fail: the error budget.
    budget_share: float = 0.01
    # The budget is that of the requests of so many ms.
    period_ms: int = 3_600_000
    # Requests of the period before a budget can be spent.
    requests_min: int = 1_000
    emission: EmissionConfig = field(default_factory=EmissionConfig)
    idle_ms: int = 24 * 3_600_000


class Requests(msgspec.Struct, frozen=True, array_like=True):
    """Requests that a service answered in one window."""

    total: int
    failed: int
    # The longest ones that failed.
    traces: tuple[Exemplar, ...] = ()


class BudgetModel(msgspec.Struct, frozen=True, array_like=True):
    """Requests of the period as of the last window, at most one entry a window."""

    last_end_ms: int = 0
    # (window start in epoch ms, requests, failed ones), ascending.
    period: tuple[tuple[int, int, int], ...] = ()
    # The insight that is open.
    open: Insight | None = None


CODEC: Final = zipped("example-error-budget", DetectorState[BudgetModel, Requests])


class BudgetRule:
    """Rule for the requests of a service against its budget. Nothing is rolled up."""

    resolutions_s: Final = ()
    codec: Codec[DetectorState[BudgetModel, Requests]] = CODEC

    def __init__(self, config: BudgetConfig) -> None:
        self.config = config
        self.emission = config.emission
        self.idle_ms = config.idle_ms
        self.fingerprint = f"window_ms={config.emission.window_ms} period_ms={config.period_ms} budget=1"

    def empty(self) -> BudgetModel:
        return BudgetModel()

    def parts(self, event: SpanAggregate, model: BudgetModel) -> Iterator[WindowPart[Requests]]:
        for start_ms, late, table in event.windows:
            answered = [row for row in rows(table) if row.key[0] in ENTRY_KINDS and row.key[1] == DIMENSION_SERVICE]
            total, failed = sum(row.spans for row in answered), sum(row.errors for row in answered)
            yield WindowPart(start_ms, late, Requests(total, failed, table.failing))

    def records(self, aggregate: Requests) -> int:
        return aggregate.total

    def merge(self, start_ms: int, parts: Sequence[Requests], model: BudgetModel) -> Requests:
        traces = merge_slowest(trace for part in parts for trace in part.traces)
        return Requests(sum(part.total for part in parts), sum(part.failed for part in parts), traces)

    def evaluate(self, window: ServiceWindow[Requests], model: BudgetModel) -> tuple[BudgetModel, list[Insight]]:
        past = (part for part in model.period if part[0] >= window.end_ms - self.config.period_ms)
        period = (*past, (window.start_ms, window.table.total, window.table.failed))
        total, failed = sum(part[1] for part in period), sum(part[2] for part in period)
        is_spent = total >= self.config.requests_min and failed > self.config.budget_share * total
        if is_spent == (model.open is not None):
            return BudgetModel(window.end_ms, period, model.open), []
        found = self._opened(window, total, failed) if model.open is None else _closed(model.open, window.end_ms)
        return BudgetModel(window.end_ms, period, found if is_spent else None), [found]

    def expire(self, key: ServiceKey, model: BudgetModel) -> list[Insight]:
        return [] if model.open is None else [_closed(model.open, model.last_end_ms)]

    def outputs(self, evaluated: Evaluated[BudgetModel]) -> Sequence[Insight]:
        return evaluated.revisions

    def overflow(self, aggregate: Requests) -> Counts:
        return ()

    def rows(
        self, key: ServiceKey, window: RollupWindow, aggregate: Requests, model: BudgetModel
    ) -> tuple[Insight, ...]:
        return ()

    def watched(self, aggregate: Requests) -> Requests:
        return aggregate

    def counts(self, evaluated: Evaluated[BudgetModel]) -> Counts:
        return ()

    def _opened(self, window: ServiceWindow[Requests], total: int, failed: int) -> Insight:
        share = self.config.budget_share
        return Insight(
            insight_id=insight_id("error_ratio", window.env, window.service, SUBJECT, window.start_ms),
            revision=0,
            status="open",
            kind="error_ratio",
            env=window.env,
            service=window.service,
            subject=SUBJECT,
            window=Window(window.start_ms, window.end_ms),
            severity="critical",
            confidence=1.0,
            title=f"{window.service}: {failed} of {total} requests failed, {share:.1%} may: no error budget is left",
            measures={"requests": total, "requests_failed": failed, "budget_ratio": share},
            evidence=Evidence(traces=tuple(map(_failing, window.table.traces))),
        )


def _failing(span: Exemplar) -> TraceExemplar:
    return TraceExemplar("failing", span.trace_id, span.duration_ns / 1e6, span.host, span.operation)


def _closed(opened: Insight, end_ms: int) -> Insight:
    window = Window(opened.window.start_ms, end_ms)
    return msgspec.structs.replace(opened, status="closed", reason="within the error budget again", window=window)


class ErrorBudget(WindowedDetector[BudgetModel, Requests, SpanAggregate, Insight]):
    """Error budget detector. One state for each (env, service)."""

    takes = (SpanAggregate,)
    gives = (Insight, DeadLetter)

    def __init__(self, config: BudgetConfig) -> None:
        super().__init__(BudgetRule(config), lambda requests: 1)


def stage(config: BudgetConfig) -> Stage:
    """Return the stage of the detector. Its uid names its state in savepoints and never changes."""
    return Stage("own-error-budget", ErrorBudget(config), BY_SERVICE)
