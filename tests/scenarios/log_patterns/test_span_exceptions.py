"""Exceptions of spans in rows and insights, also beside the same exceptions in logs."""

from collections import Counter
from typing import Any

import msgspec

from jobs.graph import JOBS, GraphConfig, stages
from operators.ingest.fold import TraceFold
from operators.runtime.routing import Takers, open_ends, routes
from state_schemas.aggregates.logs import ExceptionAggregate, LogAggregate
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.contracts.tables import PatternName, PatternRow
from state_schemas.telemetry.message import KafkaPosition
from tests.support.driving import Timed, graph_config, insights, run
from tests.support.span_exceptions import JAVA, request_of, span_of
from tests.support.timeline import last, window_of
from tests.support.traffic import START_MS, WINDOW_MS

OLD = {"exception.type": "java.net.SocketTimeoutException", "exception.message": "read timed out after 30 s"}
NEW = {"exception.type": "java.lang.IllegalStateException", "exception.stacktrace": JAVA}
WARM = "o" * 30  # five minutes; the warm-up is one minute
CONFIG = graph_config("final")
TEMPLATE = "java.lang.IllegalStateException at com.shop.cart.Cart.add at com.shop.cart.Api.put cart <number> is closed"


def events_of(drawing: str) -> list[Timed]:
    """Return a message with one span for each window: `o` with an old exception, `n` new, `N` both, blank none."""
    fold, events = TraceFold(CONFIG.fold), []
    for window, character in enumerate(drawing):
        start_ms = START_MS + window * WINDOW_MS
        exceptions = {"o": [OLD], "n": [NEW], "N": [OLD, NEW], " ": []}[character]
        at = KafkaPosition("trace_events", 0, window, start_ms + WINDOW_MS)
        span = span_of(window + 1, *exceptions, end_ms=start_ms + 5_000)
        message = fold.fold(request_of([span]).SerializeToString(), at).message
        assert message is not None
        events.append((at.timestamp_ms, message))
    return events


def as_logs(message: FoldedMessage) -> FoldedMessage:
    """Return the message with the same lines as log records."""
    return msgspec.structs.replace(message, key="logs_raw|0", spans=None, signal="logs")


def rows_of(outputs: list[Any], resolution_s: int = 10) -> list[PatternRow]:
    return [out for out in outputs if isinstance(out, PatternRow) and out.resolution_s == resolution_s]


def test_an_exception_that_is_new_in_a_service_has_a_row_and_a_name() -> None:
    outputs = run(stages(CONFIG), events_of(WARM + "N "))
    (row,) = [row for row in rows_of(outputs) if row.template == TEMPLATE]
    assert (row.env, row.service, row.source, row.late) == ("prod", "cart", "spans", False)
    assert (window_of(row.window_start_ms), row.count, row.total, row.severity_number) == (30, 1, 2, 17)
    (name,) = [out for out in outputs if isinstance(out, PatternName) and out.template == TEMPLATE]
    assert (name.source, name.pattern_id, name.first_seen_ms) == ("spans", row.pattern_id, row.window_start_ms)


def test_an_exception_of_spans_alone_is_an_insight_about_spans() -> None:
    recorded = events_of(WARM + "N" * 3)
    (of_spans,) = last(insights(run(stages(CONFIG), recorded)))
    assert of_spans.title.startswith("cart: new exception in spans, 3 times since ")
    assert of_spans.subject.endswith("@spans")
    assert of_spans.evidence.template == TEMPLATE


def test_an_exception_in_logs_and_spans_is_one_insight() -> None:
    events = [(at_ms, event) for at_ms, message in events_of(WARM + "N" * 3) for event in (message, as_logs(message))]
    (of_logs,) = last(insights(run(stages(CONFIG), events)))
    assert of_logs.title.startswith("cart: new error, 3 times since ")


def test_an_exception_in_logs_and_spans_is_counted_once_in_each_source() -> None:
    """In each window the rows of a source add up to its total; no row holds both."""
    events = [(at_ms, event) for at_ms, message in events_of("oNNo") for event in (message, as_logs(message))]
    for resolution_s, windows in ((10, [1, 2, 2, 1]), (60, [6])):
        sums: Counter[tuple[str, int]] = Counter()
        totals: dict[tuple[str, int], int] = {}
        for row in rows_of(run(stages(CONFIG), events), resolution_s):
            sums[row.source, row.window_start_ms] += row.count
            totals[row.source, row.window_start_ms] = row.total
        assert sums == totals
        for source in ("logs", "spans"):
            assert [lines for (of_source, _), lines in sorted(sums.items()) if of_source == source] == windows


def test_rows_of_logs_wait_for_no_spans_and_rows_of_spans_for_no_logs() -> None:
    """A machine with both inputs would wait for the slower topic: each has one pre-aggregation as its only input."""
    for aggregate, pre_aggregate, uid in (
        (LogAggregate, "pre-aggregate-logs", "error-patterns"),
        (ExceptionAggregate, "pre-aggregate-traces", "error-patterns-traces"),
    ):
        for graph in (stages(GraphConfig()), JOBS["error-patterns"].stages(GraphConfig())):
            takers = routes(graph, open_ends(graph)).takers
            ways = [(giver, taker.uid) for giver in takers for taker in takers[giver].get(aggregate, Takers()).stages]
            assert ways == [(pre_aggregate, uid)]


def test_minutes_with_spans_and_without_exceptions_count_as_warm_up() -> None:
    """The first exception of a service with spans and without exceptions for 5 minutes is new."""
    (insight,) = last(insights(run(stages(CONFIG), events_of(" " * 30 + "n n "))))
    assert insight.kind == "error_pattern_new"
    assert insight.window.start_ms == START_MS + 30 * WINDOW_MS


def test_an_exception_that_does_not_recur_is_closed_after_windows_with_spans() -> None:
    (insight,) = last(insights(run(stages(CONFIG), events_of(WARM + "nn" + " " * 28))))
    assert (insight.status, insight.reason) == ("closed", "not seen again")


AWAY = "oonnoo" + "o" * 54 + "nn"  # absent for nine minutes; two minutes are enough to have returned


def test_an_exception_that_recurs_after_minutes_with_spans_has_returned() -> None:
    revisions = last(insights(run(stages(CONFIG), events_of(AWAY.replace("o", " ")))))
    assert [(insight.kind, window_of(insight.window.start_ms)) for insight in revisions] == [
        ("error_pattern_returned", 60)
    ]


def test_an_exception_that_returns_in_logs_and_spans_is_one_insight() -> None:
    events = [(at_ms, event) for at_ms, message in events_of(AWAY) for event in (message, as_logs(message))]
    (insight,) = last(insights(run(stages(CONFIG), events)))
    assert insight.title.startswith("cart: error returned after ")


def test_a_rare_exception_that_comes_in_each_window_is_a_surge() -> None:
    """Windows with spans and without exceptions count as zero in its usual rate."""
    (insight,) = last(insights(run(stages(CONFIG), events_of(("o" + " " * 17) * 7 + "o" * 14))))
    assert insight.kind == "error_pattern_surge"
    assert 120 < window_of(insight.window.start_ms) <= 126
    assert last(insights(run(stages(CONFIG), events_of("o" * 60)))) == []


def exceptions_of(events: list[Timed]) -> list[ExceptionAggregate]:
    stage = next(stage for stage in stages(CONFIG) if stage.uid == "pre-aggregate-traces")
    return [part for part in run((stage,), events) if isinstance(part, ExceptionAggregate)]


def test_a_service_with_spans_is_reported_once_a_minute_whatever_the_clocks_of_its_hosts() -> None:
    behind = [(at_ms + 3 * WINDOW_MS, message) for at_ms, message in events_of(" " * 60)]
    assert len(exceptions_of(sorted(events_of(" " * 60) + behind, key=lambda event: event[0]))) == 10
    reported = exceptions_of(events_of(" " * 25 + "o" * 7))
    empty = [start_ms for part in reported for start_ms, _, table in part.windows if not table.patterns]
    assert [window_of(start_ms) for start_ms in empty] == [5, 11, 17, 23, 29, 35]
    assert [window_of(start_ms) for part in reported for start_ms, _, table in part.windows if table.patterns] == [
        *range(25, 32)
    ]
