"""Laws of the spike rule on drawn panes: weeks, holes, versions, parts of a service, numbers that can be checked."""

from math import ceil
from random import Random

import msgspec
import pytest

from state_schemas.aggregates.spans import DIMENSION_OPERATION, SpanBlock
from state_schemas.contracts.insight import Insight
from state_schemas.state.latency import Learnt, Suspicion
from state_schemas.telemetry.resource import ServiceInfo
from state_schemas.telemetry.spans import ENTRY_KINDS, KIND_SERVER
from tests.support.timeline import sent, told
from tests.support.traffic import PANE_MS, START_MS, OneSpan, Sent, fold, partials
from udfs.detect.latency.baseline import SpikeConfig, reference
from udfs.detect.latency.rule import ACCEPTED, ACCEPTED_VERSION, UNSEEN, PaneOfSpans, watch_pane
from udfs.spans.window import NameLimits, entry_pane
from udfs.stats.duration_histogram import RELATIVE_ERROR

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def pane_of(spans: list[OneSpan], version: str = "1.0") -> SpanBlock:
    """A pane for detection that holds these spans; its own time does not matter to the rule."""
    message, _ = fold(Sent(START_MS, tuple(spans), 0, 0))
    assert message is not None
    ((_, _, block),) = partials(message)[0].panes
    facts = ServiceInfo(version, START_MS)
    return entry_pane(msgspec.structs.replace(block, facts=facts), ENTRY_KINDS)


def spans_of(latency_ms: float, count: int = 12, operation: str = "GET /", host: str = "host-0") -> list[OneSpan]:
    return [
        OneSpan("cart", START_MS, latency_ms + number % 3, 1 + number, operation=operation, host=host)
        for number in range(count)
    ]


def watched(panes: list[tuple[int, SpanBlock]]) -> list[Insight]:
    """All drafts of these (start, pane)."""
    learnt, out = Learnt(), []
    for start_ms, block in panes:
        pane = PaneOfSpans("prod", "cart", start_ms, start_ms + PANE_MS, block)
        learnt, drafts = watch_pane(learnt, pane, SpikeConfig(), NameLimits())
        out += drafts
    return out


def opened(found: list[Insight]) -> list[Insight]:
    return [insight for insight in found if insight.status == "open"]


def test_a_peak_of_every_day_stops_alarming_after_two_weeks_and_another_hour_still_does() -> None:
    """Forty minutes three times as slow at noon, for four weeks; on the last day once more in the evening."""
    normal, peak = pane_of(spans_of(100)), pane_of(spans_of(300))
    start_ms = START_MS // DAY_MS * DAY_MS
    evening_ms = start_ms + 27 * DAY_MS + 20 * HOUR_MS
    panes = []
    for at_ms in range(start_ms, start_ms + 28 * DAY_MS, 60_000):
        noon = 12 * HOUR_MS <= at_ms % DAY_MS < 12 * HOUR_MS + 40 * 60_000
        panes.append((at_ms, peak if noon or evening_ms <= at_ms < evening_ms + 40 * 60_000 else normal))
    days = [(insight.window.start_ms - start_ms) // DAY_MS for insight in opened(watched(panes))]
    assert set(days) == {*range(14), 27}, "each day of the first two weeks, then only the one in the evening"


def test_an_episode_of_which_nothing_was_seen_for_ten_minutes_is_over_and_does_not_reach_beyond_the_hole() -> None:
    normal, slow = pane_of(spans_of(100)), pane_of(spans_of(900))
    before = [(START_MS + n * PANE_MS, normal) for n in range(40)]
    during = [(START_MS + n * PANE_MS, slow) for n in range(40, 46)]
    after = [(START_MS + 20 * 60_000 + n * PANE_MS, slow) for n in range(40, 46)]
    found = watched([*before, *during, *after])
    first, second = opened(found)
    closed = [insight for insight in found if insight.status == "closed"]
    assert [(insight.insight_id, insight.reason) for insight in closed] == [(first.insight_id, UNSEEN)]
    assert closed[0].window.end_ms == START_MS + 46 * PANE_MS
    assert second.window.start_ms == after[0][0]


def test_a_level_that_came_with_a_new_version_is_accepted_sooner() -> None:
    old, new = pane_of(spans_of(100)), pane_of(spans_of(300), version="2.0")
    panes = [(START_MS + n * PANE_MS, old if n < 40 else new) for n in range(160)]
    found = watched(panes)
    assert len(opened(found)) == 1
    assert (found[-1].status, found[-1].reason) == ("closed", ACCEPTED_VERSION.format("2.0"))
    lasted_ms = found[-1].window.end_ms - found[-1].window.start_ms
    assert lasted_ms == SpikeConfig().accept_version_ms < SpikeConfig().accept_ms


@pytest.mark.parametrize(
    ("operation", "host", "subject"), [("POST /pay", "host-0", "POST /pay"), ("GET /", "host-9", "host-9")]
)
def test_a_small_part_that_is_slow_is_found_and_named(operation: str, host: str, subject: str) -> None:
    """One span in twenty-five: the service's own P95 hardly moves."""
    usual = [*spans_of(100, 150), *spans_of(100, 6, operation, host)]
    numbered = [span._replace(number=1 + number) for number, span in enumerate(usual)]
    slow = [
        span._replace(latency_ms=900) if (span.operation, span.host) == (operation, host) else span for span in numbered
    ]
    panes = [(START_MS + n * PANE_MS, pane_of(numbered)) for n in range(60)]
    panes += [(START_MS + n * PANE_MS, pane_of(slow)) for n in range(60, 66)]
    (found,) = opened(watched(panes))
    assert (found.subject, found.measures["slow_spans"]) == (subject, found.measures["spans"])
    assert subject in found.title


def test_the_numbers_of_an_insight_can_be_recomputed_from_its_evidence() -> None:
    """Read the offsets it names, keep the spans of its window: they give its P95, its slow spans, its hosts' shares."""
    messages = sent({"cart": "." * 40 + "#" * 6 + "." * 20, "mail": "." * 66})
    closed = told(messages, "final")[-1]
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


def test_an_incident_of_a_large_service_begins_when_it_began_though_something_is_always_suspected() -> None:
    """Eighty operations with log-normal latencies: now and then one of them looks slow for a pane or two."""
    random = Random(3)

    def pane(factor: float) -> SpanBlock:
        return pane_of(
            [
                OneSpan("cart", START_MS, factor * 60 * random.lognormvariate(0, 0.6), 1 + n, operation=f"op-{n % 80}")
                for n in range(800)
            ]
        )

    panes = [(START_MS + n * PANE_MS, pane(4.0 if 100 <= n < 106 else 1.0)) for n in range(112)]
    (found,) = opened(watched(panes))
    assert found.subject == ""
    assert 99 <= (found.window.start_ms - START_MS) // PANE_MS <= 100
    assert found.measures["latency_ms_p95"] > 3 * found.measures["baseline_latency_ms_p95"]


def test_an_operation_that_comes_every_minute_gets_known_beside_ever_new_names() -> None:
    """It is never the newest name: a table that keeps the newest would begin anew with it each time."""
    learnt = Learnt()
    for number in range(30 * 6):
        fresh = [
            OneSpan("cart", START_MS, 100 + n % 5, 10 + n, operation=f"GET /item/{number}-{n}") for n in range(100)
        ]
        pay = [
            OneSpan("cart", START_MS, 100, 500 + n, operation="POST /pay") for n in range(30 if not number % 6 else 0)
        ]
        start_ms = START_MS + number * PANE_MS
        pane = PaneOfSpans("prod", "cart", start_ms, start_ms + PANE_MS, pane_of([*fresh, *pay]))
        learnt, _ = watch_pane(learnt, pane, SpikeConfig(), NameLimits())
    known = dict(zip(learnt.baseline.sketch.keys, learnt.baseline.known, strict=True))
    assert known[0, DIMENSION_OPERATION, "POST /pay"].panes == 30


def test_a_suspicion_whose_panes_are_no_longer_held_waits_for_its_next_pane() -> None:
    """Wide panes push its own out of what is held; then the bound falls, as series are forgotten."""
    pay = (0, DIMENSION_OPERATION, "POST /pay")
    usual = pane_of(spans_of(100, 60) + [s._replace(number=90 + s.number) for s in spans_of(100, 20, "POST /pay")])
    learnt = Learnt()
    for number in range(60):
        start_ms = START_MS + number * PANE_MS
        pane = PaneOfSpans("prod", "cart", start_ms, start_ms + PANE_MS, usual)
        learnt, _ = watch_pane(learnt, pane, SpikeConfig(), NameLimits())
    found = reference(learnt.baseline, 0.0, SpikeConfig())
    suspicion = Suspicion(found.hypothesis(found.row_of[pay], of_errors=False), (40.0,) * 6, START_MS, START_MS + 1)
    learnt = msgspec.structs.replace(learnt, suspicions={("latency_spike", *pay[1:]): suspicion})
    start_ms = START_MS + 60 * PANE_MS
    pane = PaneOfSpans("prod", "cart", start_ms, start_ms + PANE_MS, pane_of(spans_of(100, 60)))
    learnt, drafts = watch_pane(learnt, pane, SpikeConfig(quiet_ms=10**9, accept_ms=10**9), NameLimits())
    assert drafts == []
    assert ("latency_spike", *pay[1:]) in learnt.suspicions


def test_the_first_version_ever_seen_has_brought_nothing() -> None:
    """Accepted after half an hour, not after ten minutes: nobody saw the version before."""
    slow = pane_of(spans_of(11_000))
    found = watched([(START_MS + n * PANE_MS, slow) for n in range(200)])
    (closed,) = [insight for insight in found if insight.status == "closed"]
    assert closed.reason == ACCEPTED


def test_an_error_insight_shows_failing_traces_and_no_slow_ones() -> None:
    """POST /pay fails within 20 ms, beside a report that takes three seconds and is well."""
    pays = [OneSpan("cart", START_MS, 20, 1 + n, operation="POST /pay") for n in range(8)]
    reports = [OneSpan("cart", START_MS, 3_000, 50 + n, operation="GET /report") for n in range(4)]
    failing = [span._replace(error=True) for span in pays]
    panes = [(START_MS + n * PANE_MS, pane_of([*(pays if n < 60 else failing), *reports])) for n in range(70)]
    found = opened(watched(panes))[0]
    assert found.kind == "error_ratio"
    assert {(trace.role, trace.operation) for trace in found.evidence.traces} == {("failing", "POST /pay")}
    assert "; failing trace " in found.title


def test_a_known_operation_that_is_slow_beside_ever_new_names_is_found() -> None:
    """A hundred names a pane that nobody has seen before: merged over panes, they must not hide the suspected one."""
    panes = []
    for number in range(70):
        fresh = [
            OneSpan("cart", START_MS, 100 + n % 5, 10 + n, operation=f"GET /item/{number}-{n}") for n in range(100)
        ]
        known = [
            OneSpan("cart", START_MS, 900 if number >= 60 else 100, 1 + n, operation="POST /pay") for n in range(8)
        ]
        panes.append((START_MS + number * PANE_MS, pane_of([*known, *fresh])))
    assert "POST /pay" in {insight.subject for insight in opened(watched(panes))}
