"""Insights that the environment explains: errors that other services had before, and logs that no service sends."""

from collections.abc import Iterable
from typing import Any

from jobs.graph import GraphConfig, stages
from operators.runtime.local import LocalGraph
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.logs import LineSource
from state_schemas.aggregates.novelty import LogPatternSighting, PatternSighting, SpanPatternSighting
from state_schemas.contracts.insight import Evidence, Insight, Kind, Status, Window
from tests.support.traffic import START_MS, WINDOW_MS
from udfs.insights.ids import insight_id

MINUTE_MS = 60_000
DAY_MS = 86_400_000


def revision(kind: Kind, service: str, at_ms: int, number: int, status: Status = "open", **measures: float) -> Insight:
    own = insight_id(kind, "prod", service, "p", at_ms)
    return Insight(
        insight_id=own,
        revision=number,
        status=status,
        kind=kind,
        env="prod",
        service=service,
        subject="p",
        window=Window(start_ms=at_ms, end_ms=at_ms + MINUTE_MS),
        severity="warning",
        confidence=0.9,
        title="t",
        measures=measures,
        evidence=Evidence(),
    )


def logged(service: str, minute: float, source: LineSource = "logs") -> PatternSighting:
    sighting = LogPatternSighting if source == "logs" else SpanPatternSighting
    return sighting("prod", "p", service, START_MS + int(minute * MINUTE_MS), source)


def new(
    service: str,
    minute: float,
    lines: int = 5,
    source: LineSource = "logs",
    number: int = 0,
    status: Status = "open",
    kind: Kind = "error_pattern_new",
) -> PatternSighting:
    sighting, at_ms = (
        LogPatternSighting if source == "logs" else SpanPatternSighting,
        START_MS + int(minute * MINUTE_MS),
    )
    emitted = revision(kind, service, at_ms, number, status, lines=float(lines))
    return sighting("prod", "p", service, at_ms, source, emitted)


def emitted(uid: str, events: Iterable[Any]) -> list[tuple[str, str]]:
    """Return (service, status) of the insights that are passed on, in order."""
    (stage,) = (stage for stage in stages(GraphConfig()) if stage.uid == uid)
    graph = LocalGraph([stage])
    out = graph.feed(events) + graph.finish()
    return [(insight.service, insight.status) for insight in out]


def test_a_pattern_of_another_service_is_new_for_ten_minutes_only() -> None:
    assert emitted("novelty", [logged("a", 0), new("b", 11)]) == []
    assert emitted("novelty", [logged("a", 0), new("a", 0), new("b", 9)]) == [("a", "open"), ("b", "open")]


def test_an_insight_of_very_many_lines_is_passed_on_though_the_pattern_is_known() -> None:
    assert emitted("novelty", [logged("a", 0), new("b", 60, lines=1_000)]) == [("b", "open")]


def test_an_emitted_insight_is_also_closed_where_another_service_has_its_pattern_earlier() -> None:
    events = [new("a", 60), logged("b", 0), new("a", 60, number=1, status="closed")]
    assert emitted("novelty", events[:1] + events[2:]) == [("a", "closed")], "one revision of those due at once"
    (stage,) = (stage for stage in stages(GraphConfig()) if stage.uid == "novelty")
    graph = LocalGraph([stage])
    out = graph.feed(events[:1]) + graph.advance(START_MS + 61 * MINUTE_MS) + graph.feed(events[1:]) + graph.finish()
    assert [insight.status for insight in out] == ["open", "closed"]


def test_an_insight_that_was_over_when_it_came_is_judged_as_a_whole() -> None:
    """After an outage event time moves far at once: the detector emits one revision, `closed`."""
    assert emitted("novelty", [new("a", 60, status="closed")]) == [("a", "closed")]
    assert emitted("novelty", [logged("b", 0), new("a", 60, status="closed")]) == []
    assert emitted("novelty", [new("a", 60, number=1, status="closed")]) == [], "the end of one that was suppressed"


def test_an_insight_that_is_retracted_before_it_is_emitted_is_not_emitted() -> None:
    assert emitted("novelty", [new("a", 60), new("a", 60, number=1, status="retracted")]) == []


def test_an_insight_that_is_emitted_opens_once() -> None:
    (stage,) = (stage for stage in stages(GraphConfig()) if stage.uid == "novelty")
    graph = LocalGraph([stage])
    out = graph.feed([new("a", 60)]) + graph.advance(START_MS + 61 * MINUTE_MS)
    out += graph.feed([new("a", 60, number=1, status="retracted"), new("a", 60, number=2)]) + graph.finish()
    assert [(insight.status, insight.revision) for insight in out] == [("open", 0), ("updated", 2)]


def test_an_exception_of_spans_is_emitted_where_the_log_of_the_service_does_not_have_it() -> None:
    assert emitted("novelty-traces", [new("a", 30, source="spans")]) == [("a", "open")]
    assert emitted("novelty-traces", [new("a", 30, source="spans"), logged("a", 30)]) == []
    assert emitted("novelty-traces", [new("a", 30, source="spans"), logged("b", 30), new("b", 30)]) == [("a", "open")]


def test_a_surge_of_spans_is_emitted_where_the_log_does_not_have_the_pattern_that_day() -> None:
    surge = new("a", 3 * 1_440, source="spans", kind="error_pattern_surge")
    assert emitted("novelty-traces", [logged("a", 0), surge]) == [("a", "open")]
    assert emitted("novelty-traces", [logged("a", 0), logged("a", 3 * 1_440 - 5), surge]) == []
    assert emitted("novelty-traces", [logged("b", 0, "spans"), surge]) == [("a", "open")], "others do not matter"


def missed(service: str, minute: int, silent_s: float, number: int = 0, status: Status = "open") -> LoggingWindows:
    at_ms = START_MS + minute * MINUTE_MS
    emitted = revision("pattern_missing", service, at_ms, number, status, silent_s=silent_s, counted_s=60)
    return LoggingWindows("prod", revision=emitted)


def others(minutes: range, every: int = 1) -> LoggingWindows:
    windows = range(minutes.start * 6, minutes.stop * 6, every)
    return LoggingWindows("prod", tuple(START_MS + window * WINDOW_MS for window in windows))


def test_a_silent_service_is_reported_alone_and_not_where_all_services_are_silent() -> None:
    assert emitted("log-silence", [others(range(20)), missed("a", 10, 60)]) == [("a", "open")]
    assert emitted("log-silence", [others(range(10)), missed("a", 10, 60), missed("b", 10, 60)]) == []
    assert emitted("log-silence", [others(range(20), every=3), missed("a", 10, 60)]) == [("a", "open")], (
        "others log rarely"
    )


def test_a_missing_line_of_a_service_that_logs_needs_no_other_service() -> None:
    assert emitted("log-silence", [others(range(10)), missed("a", 10, 20)]) == [("a", "open")]


def test_a_service_that_stays_silent_when_the_others_log_again_is_reported_then_and_closed_after() -> None:
    """Its first revision was suppressed; the first that is emitted is `open`."""
    again = [missed("a", 30, 60), missed("a", 30, 60, 1, "updated"), missed("a", 30, 60, 2, "closed")]
    (stage,) = (stage for stage in stages(GraphConfig()) if stage.uid == "log-silence")
    graph = LocalGraph([stage])
    out = graph.feed(again[:1]) + graph.advance(START_MS + 40 * MINUTE_MS)
    out += graph.feed([others(range(28, 40)), again[1]]) + graph.advance(START_MS + 41 * MINUTE_MS)
    out += graph.feed(again[2:]) + graph.finish()
    assert [(insight.status, insight.revision) for insight in out] == [("open", 1), ("closed", 2)]
