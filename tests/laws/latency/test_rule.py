"""Laws of the latency rule on drawn windows: weeks, missing windows, versions, parts of a service, exact numbers."""

from dataclasses import replace
from math import ceil
from random import Random

import msgspec
import pytest

from state_schemas.aggregates.spans import ANY_KIND, Dimension, Series, SpanTable
from state_schemas.contracts.insight import Insight
from state_schemas.state.latency import LatencyModel, PendingAlert
from state_schemas.telemetry.resource import ServiceInfo
from state_schemas.telemetry.spans import KIND_SERVER
from tests.support.timeline import emitted, sent
from tests.support.traffic import START_MS, WINDOW_MS, OneSpan, Sent, aggregates
from udfs.detect.latency.baseline import LIFE, SpikeConfig, reference
from udfs.detect.latency.rule import ACCEPTED_VERSION, evaluate_spans
from udfs.detect.lifecycle import UNSEEN
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.spans.window import entry_table
from udfs.stats.duration_histogram import RELATIVE_ERROR

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def window_of(spans: list[OneSpan], version: str = "1.0") -> SpanTable:
    """Return the table of a window with these spans for detection; the rule does not use the times in it."""
    ((_, _, table),) = aggregates(Sent(START_MS, tuple(spans), 0, 0))[0].windows
    info = ServiceInfo(version, START_MS)
    return entry_table(msgspec.structs.replace(table, info=info))


def spans_of(latency_ms: float, count: int = 12, operation: str = "GET /", host: str = "host-0") -> list[OneSpan]:
    return [
        OneSpan("cart", START_MS, latency_ms + number % 3, 1 + number, operation=operation, host=host)
        for number in range(count)
    ]


def candidates_of(windows: list[tuple[int, SpanTable]]) -> list[Insight]:
    """Return all candidates for these pairs of window start and table."""
    model, out = LatencyModel(), []
    for start_ms, table in windows:
        window = ServiceWindow(ServiceKey("prod", "cart"), start_ms, start_ms + WINDOW_MS, table)
        model, candidates = evaluate_spans(model, window, SpikeConfig())
        out += candidates
    return out


def opened(candidates: list[Insight]) -> list[Insight]:
    return [insight for insight in candidates if insight.status == "open"]


def test_a_daily_peak_opens_no_insight_after_two_weeks_and_the_same_peak_at_another_hour_does() -> None:
    """Latency is three times as high for 40 minutes at noon, for four weeks; on the last day also in the evening."""
    normal, peak = window_of(spans_of(100)), window_of(spans_of(300))
    start_ms = START_MS // DAY_MS * DAY_MS
    evening_ms = start_ms + 27 * DAY_MS + 20 * HOUR_MS
    windows = []
    for at_ms in range(start_ms, start_ms + 28 * DAY_MS, 300_000):
        noon = 12 * HOUR_MS <= at_ms % DAY_MS < 12 * HOUR_MS + 40 * 60_000
        windows.append((at_ms, peak if noon or evening_ms <= at_ms < evening_ms + 40 * 60_000 else normal))
    days = [(insight.window.start_ms - start_ms) // DAY_MS for insight in opened(candidates_of(windows))]
    assert set(days) == {*range(14), 27}, "each day of the first two weeks, then the last evening"


def test_an_episode_without_data_for_ten_minutes_is_closed_and_ends_before_the_missing_windows() -> None:
    normal, slow = window_of(spans_of(100)), window_of(spans_of(900))
    before = [(START_MS + n * WINDOW_MS, normal) for n in range(40)]
    during = [(START_MS + n * WINDOW_MS, slow) for n in range(40, 46)]
    after = [(START_MS + 20 * 60_000 + n * WINDOW_MS, slow) for n in range(40, 46)]
    candidates = candidates_of([*before, *during, *after])
    first, second = opened(candidates)
    closed = [insight for insight in candidates if insight.status == "closed"]
    assert [(insight.insight_id, insight.reason) for insight in closed] == [(first.insight_id, UNSEEN.reason)]
    assert closed[0].window.end_ms == START_MS + 46 * WINDOW_MS
    assert second.window.start_ms == after[0][0]


@pytest.mark.parametrize(("before_ms", "reasons"), [(0, [UNSEEN.reason]), (WINDOW_MS, [])])
def test_an_episode_is_closed_from_exactly_ten_minutes_without_its_service_on(
    before_ms: int, reasons: list[str]
) -> None:
    normal, slow = window_of(spans_of(100)), window_of(spans_of(900))
    until = [(START_MS + n * WINDOW_MS, slow if n >= 40 else normal) for n in range(46)]
    next_ms = START_MS + 46 * WINDOW_MS + LIFE.close_after_ms - before_ms
    found = candidates_of([*until, (next_ms, slow)])
    assert len(opened(found)) == 1
    assert [insight.reason for insight in found if insight.status == "closed"] == reasons


def test_a_level_that_came_with_a_new_version_is_accepted_sooner() -> None:
    old, new = window_of(spans_of(100)), window_of(spans_of(300), version="2.0")
    windows = [(START_MS + n * WINDOW_MS, old if n < 40 else new) for n in range(160)]
    candidates = candidates_of(windows)
    (first,) = opened(candidates)
    assert ", new since version 2.0" in first.title
    assert (candidates[-1].status, candidates[-1].reason) == ("closed", ACCEPTED_VERSION.format("2.0"))
    lasted_ms = candidates[-1].window.end_ms - candidates[-1].window.start_ms
    assert lasted_ms == SpikeConfig().accept_version_ms < LIFE.accept_ms


@pytest.mark.parametrize(
    ("operation", "host", "subject"), [("POST /pay", "host-0", "POST /pay"), ("GET /", "host-9", "host-9")]
)
def test_a_slow_operation_or_host_with_few_spans_is_found_and_named(operation: str, host: str, subject: str) -> None:
    """It has one span in twenty-five, so the P95 of the service hardly changes."""
    usual = [*spans_of(100, 150), *spans_of(100, 6, operation, host)]
    numbered = [span._replace(number=1 + number) for number, span in enumerate(usual)]
    slow = [
        span._replace(latency_ms=900) if (span.operation, span.host) == (operation, host) else span for span in numbered
    ]
    windows = [(START_MS + n * WINDOW_MS, window_of(numbered)) for n in range(60)]
    windows += [(START_MS + n * WINDOW_MS, window_of(slow)) for n in range(60, 66)]
    (insight,) = opened(candidates_of(windows))
    assert (insight.subject, insight.measures["slow_spans"]) == (subject, insight.measures["spans"])
    assert subject in insight.title


def test_the_numbers_of_an_insight_can_be_recomputed_from_its_evidence() -> None:
    """The spans of its window at its Kafka offsets give its P95, its slow spans and the shares of its hosts."""
    messages = sent({"cart": "." * 40 + "#" * 6 + "." * 20, "mail": "." * 66})
    closed = emitted(messages, "final")[-1]
    assert closed.status == "closed"
    ranges = [(part.first_offset, part.last_offset) for part in closed.evidence.kafka]
    spans = [
        span
        for message in messages
        if any(first <= message.offset <= last for first, last in ranges)
        for span in message.spans
        if span.service == closed.service
        and span.kind == KIND_SERVER
        and closed.window.start_ms <= span.end_ms < closed.window.end_ms
    ]
    latencies = sorted(span.latency_ms for span in spans)
    slow = [span for span in spans if span.latency_ms >= closed.measures["threshold_latency_ms"]]
    assert closed.measures["spans"] == len(spans)
    assert closed.measures["slow_spans"] == len(slow)
    exact_ms = latencies[ceil(0.95 * len(latencies)) - 1]
    assert closed.measures["latency_ms_p95"] == pytest.approx(exact_ms, rel=RELATIVE_ERROR)
    assert {host.name: host.share for host in closed.evidence.hosts} == {
        name: pytest.approx(sum(span.host == name for span in slow) / len(slow), abs=1e-4)
        for name in ("host-0", "host-1")
    }


def test_an_episode_of_a_large_service_begins_in_the_right_window_although_an_alert_is_always_pending() -> None:
    """Of eighty operations with log-normal latencies, one appears slow for a window or two now and then."""
    random = Random(3)

    def window(factor: float) -> SpanTable:
        return window_of(
            [
                OneSpan("cart", START_MS, factor * 60 * random.lognormvariate(0, 0.6), 1 + n, operation=f"op-{n % 80}")
                for n in range(800)
            ]
        )

    windows = [(START_MS + n * WINDOW_MS, window(4.0 if 60 <= n < 66 else 1.0)) for n in range(72)]
    (insight,) = opened(candidates_of(windows))
    assert insight.subject == ""
    assert 59 <= (insight.window.start_ms - START_MS) // WINDOW_MS <= 60
    assert insight.measures["latency_ms_p95"] > 3 * insight.measures["baseline_latency_ms_p95"]


def test_an_operation_called_every_minute_gets_a_baseline_beside_ever_new_names() -> None:
    """It is never the newest name: a baseline that keeps the newest names would evict it each time."""
    model = LatencyModel()
    for number in range(30 * 6):
        fresh = [
            OneSpan("cart", START_MS, 100 + n % 5, 10 + n, operation=f"GET /item/{number}-{n}") for n in range(100)
        ]
        pay = [
            OneSpan("cart", START_MS, 100, 500 + n, operation="POST /pay") for n in range(30 if not number % 6 else 0)
        ]
        start_ms = START_MS + number * WINDOW_MS
        window = ServiceWindow(ServiceKey("prod", "cart"), start_ms, start_ms + WINDOW_MS, window_of([*fresh, *pay]))
        model, _ = evaluate_spans(model, window, SpikeConfig())
    known = dict(zip(model.baseline.sketches.keys, model.baseline.known, strict=True))
    assert known[Series(ANY_KIND, Dimension.OPERATION, "POST /pay")].windows == 30


def test_a_pending_alert_whose_windows_are_no_longer_held_waits_for_its_next_window() -> None:
    """Windows with many series displace those of the alert; then the bound becomes lower, as series are evicted."""
    pay = Series(ANY_KIND, Dimension.OPERATION, "POST /pay")
    usual = window_of(spans_of(100, 60) + [s._replace(number=90 + s.number) for s in spans_of(100, 20, "POST /pay")])
    model = LatencyModel()
    for number in range(60):
        start_ms = START_MS + number * WINDOW_MS
        window = ServiceWindow(ServiceKey("prod", "cart"), start_ms, start_ms + WINDOW_MS, usual)
        model, _ = evaluate_spans(model, window, SpikeConfig())
    thresholds = reference(model.baseline, 0.0, SpikeConfig()).thresholds("latency_spike", pay)
    pending_alert = PendingAlert(thresholds, (40.0,) * 6, START_MS, START_MS + 1)
    model = msgspec.structs.replace(model, pending_alerts={"latency_spike": {pay: pending_alert}})
    start_ms = START_MS + 60 * WINDOW_MS
    window = ServiceWindow(ServiceKey("prod", "cart"), start_ms, start_ms + WINDOW_MS, window_of(spans_of(100, 60)))
    config = SpikeConfig(life=replace(LIFE, close_after_ms=10**9, accept_ms=10**9))
    model, candidates = evaluate_spans(model, window, config)
    assert candidates == []
    assert pay in model.pending_alerts["latency_spike"]


def test_the_first_version_seen_is_no_change_of_version() -> None:
    """Its level is accepted after half an hour and not after ten minutes, because no earlier version was seen."""
    slow = window_of(spans_of(11_000))
    candidates = candidates_of([(START_MS + n * WINDOW_MS, slow) for n in range(200)])
    (closed,) = [insight for insight in candidates if insight.status == "closed"]
    assert closed.reason == LIFE.accepted
    assert "version" not in closed.title


def test_an_error_insight_shows_failing_traces_and_no_slow_ones() -> None:
    """POST /pay fails within 20 ms; GET /report takes three seconds and does not fail."""
    pays = [OneSpan("cart", START_MS, 20, 1 + n, operation="POST /pay") for n in range(8)]
    reports = [OneSpan("cart", START_MS, 3_000, 50 + n, operation="GET /report") for n in range(4)]
    failing = [span._replace(error=True) for span in pays]
    windows = [(START_MS + n * WINDOW_MS, window_of([*(pays if n < 60 else failing), *reports])) for n in range(70)]
    insight = opened(candidates_of(windows))[0]
    assert insight.kind == "error_ratio"
    assert {(trace.role, trace.operation) for trace in insight.evidence.traces} == {("failing", "POST /pay")}
    assert insight.title.endswith(f"; trace {insight.evidence.traces[0].trace_id}")


def test_a_known_operation_that_is_slow_beside_ever_new_names_is_found() -> None:
    """Each window has a hundred new names: merged over windows, they must not displace the operation with the alert."""
    windows = []
    for number in range(70):
        fresh = [
            OneSpan("cart", START_MS, 100 + n % 5, 10 + n, operation=f"GET /item/{number}-{n}") for n in range(100)
        ]
        known = [
            OneSpan("cart", START_MS, 900 if number >= 60 else 100, 1 + n, operation="POST /pay") for n in range(8)
        ]
        windows.append((START_MS + number * WINDOW_MS, window_of([*known, *fresh])))
    assert "POST /pay" in {insight.subject for insight in opened(candidates_of(windows))}
