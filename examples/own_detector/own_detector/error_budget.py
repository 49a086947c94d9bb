"""Error budget detector: more requests of a service have failed in the last hour than its budget allows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from jobs.graph import BY_SERVICE
from operators.emission import EmissionConfig
from operators.machine import Stage
from operators.windowed import WindowedDetector, WindowPart
from state_schemas.aggregates.spans import Dimension, Exemplar, SpanAggregate
from state_schemas.codec import zipped
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Evidence, Insight, TraceExemplar
from state_schemas.state.detector import DetectorState
from state_schemas.telemetry.resource import ServiceInfo
from state_schemas.telemetry.spans import ENTRY_KINDS
from udfs.detect.finding import Finding
from udfs.detect.lifecycle import OPEN, Course
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.spans.window import merge_slowest, rows

SUBJECT: Final = "error budget"
CLOSED: Final = Course("closed", "within the error budget again")


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """Settings of the detector."""

    # Share of the requests that may fail: the error budget.
    budget_share: float = 0.01
    # The budget is that of the requests of so many ms.
    period_ms: int = 3_600_000
    # Requests of the period before a budget can be spent.
    requests_min: int = 1_000
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


class ErrorBudget(WindowedDetector[BudgetModel, Requests, SpanAggregate, Insight]):
    """Error budget detector. One state for each (env, service); nothing is rolled up."""

    takes = (SpanAggregate,)
    gives = (Insight, DeadLetter)
    codec = zipped("example-error-budget", DetectorState[BudgetModel, Requests])
    empty = BudgetModel

    def __init__(self, config: BudgetConfig, emission: EmissionConfig) -> None:
        super().__init__(emission, config.idle_ms, f"period_ms={config.period_ms} budget=1")
        self.config = config

    def parts(self, event: SpanAggregate, model: BudgetModel) -> Iterator[WindowPart[Requests]]:
        for start_ms, late, table in event.windows:
            answered = [
                spans for key, spans in rows(table) if key.kind in ENTRY_KINDS and key.dimension is Dimension.SERVICE
            ]
            total, failed = sum(spans.spans for spans in answered), sum(spans.errors for spans in answered)
            yield WindowPart(start_ms, late, Requests(total, failed, table.failing))

    def records(self, aggregate: Requests) -> int:
        return aggregate.total

    def names(self, aggregate: Requests) -> int:
        return 1

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

    def _opened(self, window: ServiceWindow[Requests], total: int, failed: int) -> Insight:
        share = self.config.budget_share
        return Finding(
            kind="error_ratio",
            subject=SUBJECT,
            start_ms=window.start_ms,
            end_ms=window.end_ms,
            severity="critical",
            confidence=1.0,
            text=f"{failed} of {total} requests failed, {share:.1%} may: no error budget is left",
            measures={"requests": total, "requests_failed": failed, "budget_ratio": share},
            evidence=Evidence(traces=tuple(map(_failing, window.table.traces))),
            info=ServiceInfo(),
        ).candidate(window.key, OPEN)


def _failing(span: Exemplar) -> TraceExemplar:
    return TraceExemplar("failing", span.trace_id, span.duration_ns / 1e6, span.host, span.operation)


def _closed(opened: Insight, end_ms: int) -> Insight:
    window = msgspec.structs.replace(opened.window, end_ms=end_ms)
    return msgspec.structs.replace(opened, status=CLOSED.status, reason=CLOSED.reason, window=window)


def stage(config: BudgetConfig, emission: EmissionConfig) -> Stage:
    """Return the stage of the detector. Its uid names its state in savepoints and never changes."""
    return Stage("own-error-budget", ErrorBudget(config, emission), BY_SERVICE)
