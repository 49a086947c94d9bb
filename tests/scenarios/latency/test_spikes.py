"""Insights about slow and failing spans, as drawn in timelines."""

from itertools import groupby

import pytest

from jobs.graph import stages
from operators.runtime.local import LocalGraph
from tests.support.driving import graph_config, insights
from tests.support.timeline import brief, emitted, last, sent, spans_of, window_of
from tests.support.traffic import START_MS, WINDOW_MS, Sent, fold
from udfs.detect.latency.baseline import SpikeConfig

USUAL = "." * 12


def test_a_spike_on_one_host_opens_updates_and_closes() -> None:
    #              0         1         2         3
    #              0123456789012345678901234567890
    line = "............########..........."
    found = emitted(sent({"cart": line}))
    statuses = [status for status, _ in groupby(insight.status for insight in found)]
    assert (statuses[0], statuses[-1]) == ("open", "closed")
    assert "updated" in statuses
    (closed,) = last(found)
    assert (closed.kind, closed.service, closed.reason) == ("latency_spike", "cart", "back to usual")
    assert (window_of(closed.window.start_ms), window_of(closed.window.end_ms)) == (12, 20)
    assert (closed.evidence.hosts[0].name, closed.evidence.hosts[0].share) == ("host-0", 1.0)
    assert ", on host host-0 (100 %); trace " in closed.title
    assert 395 < closed.measures["latency_ms_p95"] < 410
    assert closed.evidence.traces[0].latency_ms > 390
    assert closed.evidence.kafka[0].first_offset == 12
    assert closed.evidence.kafka[0].last_offset == 19


def test_a_spike_opens_within_three_windows_of_the_first_slow_one() -> None:
    first, *_ = emitted(sent({"cart": USUAL + "###"}))
    assert (first.status, window_of(first.window.start_ms), window_of(first.window.end_ms)) == ("open", 12, 15)


def test_one_slow_window_is_no_insight() -> None:
    assert emitted(sent({"cart": USUAL + "#" + USUAL + "#" + USUAL})) == []


def test_failing_spans_are_an_error_ratio_and_no_latency_spike() -> None:
    found = emitted(sent({"cart": USUAL + "!!!!!!" + USUAL + USUAL}))
    assert brief(last(found)) == [("error_ratio", "cart", "closed")]
    assert last(found)[0].measures["error_ratio"] == 0.5


def test_a_level_that_stays_is_accepted_and_opens_no_second_insight() -> None:
    """After 30 minutes the level is the new normal: one insight in 67 minutes, and not one every 30 minutes."""
    found = last(emitted(sent({"cart": "." * 40 + "S" * 400}), "final"))
    assert [(insight.kind, insight.status, insight.reason) for insight in found] == [
        ("latency_spike", "closed", "the level has stayed: it is the new normal")
    ]


def test_an_error_level_that_stays_is_accepted_and_opens_no_second_insight() -> None:
    found = last(emitted(sent({"cart": "." * 40 + "e" * 400}), "final"))
    assert [(insight.kind, insight.status, insight.reason) for insight in found] == [
        ("error_ratio", "closed", "the level has stayed: it is the new normal")
    ]


def test_an_error_ratio_of_50_percent_is_never_accepted() -> None:
    """It is accepted neither after 30 minutes nor earlier with a new version: one insight stays open until the end."""
    found = emitted(sent({"cart": "." * 40 + "!" * 400 + "." * 40}), "final")
    assert brief(last(found)) == [("error_ratio", "cart", "closed")]
    assert last(found)[0].reason == "back to usual"


def test_slow_and_failing_spans_are_accepted_when_both_levels_have_stayed() -> None:
    """Each level waits for the other, but not for ever: both begin in one window and are accepted in one window."""
    slow_and_failing = [
        message._replace(spans=tuple(span._replace(error=span.number % 12 == 0) for span in message.spans))
        if window >= 40
        else message
        for window, message in enumerate(sent({"cart": "." * 40 + "S" * 400}))
    ]
    found = last(emitted(slow_and_failing, "final"))
    assert {(insight.kind, insight.status) for insight in found} == {
        ("latency_spike", "closed"),
        ("error_ratio", "closed"),
    }
    assert len(found) == 2


@pytest.mark.parametrize("pattern", ["S.", "SS..", "#.", "!.", "X..", "SSS..."])
def test_an_intermittent_incident_is_one_insight_and_does_not_enter_the_baseline(pattern: str) -> None:
    found = emitted(sent({"cart": "." * 60 + pattern * 30 + "." * 40 + "SSSSSS" + "." * 40}), "final")
    during = [insight for insight in last(found) if window_of(insight.window.start_ms) < 60 + 30 * len(pattern)]
    after = [insight for insight in last(found) if insight not in during]
    assert len(during) == 1, [insight.title for insight in during]
    assert [(insight.kind, window_of(insight.window.start_ms)) for insight in after] == [
        ("latency_spike", 60 + 30 * len(pattern) + 40)
    ], "the incident must not change the baseline: a later one is found"


def test_an_incident_that_weakens_stays_open() -> None:
    """All spans are slow for a minute, then 50 % of them for five minutes: one insight until the end."""
    found = emitted(sent({"cart": "." * 40 + "SSSSSS" + "#" * 30 + "." * 30}), "final")
    assert [(brief([insight]), window_of(insight.window.end_ms)) for insight in last(found)] == [
        ([("latency_spike", "cart", "closed")], 76)
    ]


@pytest.mark.parametrize("always", ["!", "X"])
def test_a_service_that_always_fails_is_one_insight(always: str) -> None:
    found = last(emitted(sent({"cart": always * 400}), "final"))
    assert brief(found) == [("error_ratio", "cart", "closed")]
    assert found[0].cold_start


def test_low_traffic_with_one_slow_span_is_no_insight() -> None:
    assert emitted(sent({"cart": "-" * 60 + "s" + "-" * 20})) == []


def test_a_cold_start_is_evaluated_with_the_static_thresholds_only() -> None:
    """A latency of 400 ms from the first span on may be usual: no baseline exists yet."""
    assert emitted(sent({"cart": "S" * 30})) == []


def test_insights_of_a_young_baseline_are_marked_cold_start() -> None:
    found = emitted(sent({"cart": USUAL + "SSSSS"}))
    assert found
    assert all(insight.cold_start and insight.confidence < 0.9 for insight in found)


def test_an_early_spike_is_retracted_when_normal_spans_arrive_later() -> None:
    """Three slow windows arrive first; many more normal spans of the same windows arrive later, within the lateness.

    window     012345678901 234
    early      ............ SSS      <- opens at the end of the third slow window
    later                   ...      <- many normal spans of the same windows
    """
    early = sent({"cart": USUAL + "SSS"})
    normal = []
    for window in (12, 13, 14):
        start_ms = START_MS + window * WINDOW_MS
        spans = tuple(span for _ in range(40) for span in spans_of("cart", ".", start_ms))
        normal.append(Sent(START_MS + 17 * WINDOW_MS, spans, 0, 100 + window))
    after = [message._replace(offset=200 + message.offset) for message in sent({"cart": " " * 17 + "....."})]
    opening = Sent(START_MS + 16 * WINDOW_MS, tuple(spans_of("other", ".", START_MS + 15 * WINDOW_MS)), 0, 99)
    found = emitted([*early, opening, *normal, *after])
    assert [insight.status for insight in found] == ["open", "retracted"]
    assert [insight.revision for insight in found] == [0, 1]
    assert "no longer holds" in found[1].reason
    assert emitted([*early, opening, *normal, *after], "final") == []


def test_a_service_active_once_a_day_keeps_its_baseline_in_small_and_large_steps_of_event_time() -> None:
    """Its second run begins shortly before its state expires, and is sent 20 s after its spans ended."""
    idle_ms = SpikeConfig().idle_ms
    first = sent({"cart": "." * 40})
    pause_ms = 40 * WINDOW_MS + idle_ms - WINDOW_MS
    second = [
        message._replace(
            timestamp_ms=message.timestamp_ms + pause_ms + 20_000,
            spans=tuple(span._replace(end_ms=span.end_ms + pause_ms) for span in message.spans),
        )
        for message in sent({"cart": "S" * 8})
    ]
    messages = [message._replace(offset=offset) for offset, message in enumerate([*first, *second])]
    events = [(message.timestamp_ms, event) for message in messages if (event := fold(message).message)]
    latency = [
        stage for stage in stages(graph_config("final")) if stage.uid in ("pre-aggregate-traces", "latency-spike")
    ]
    runs = []
    for step_ms in (0, 5_000):
        graph, out, watermark_ms = LocalGraph(latency), [], START_MS
        for timestamp_ms, event in events:
            while step_ms and watermark_ms + step_ms <= timestamp_ms - 5_000:
                hours_left = timestamp_ms - watermark_ms > 2 * 3_600_000
                watermark_ms += 3_600_000 if hours_left else step_ms
                out += graph.advance(watermark_ms)
            out += graph.feed([event])
            watermark_ms = max(watermark_ms, timestamp_ms - 5_000)
            out += graph.advance(watermark_ms)
        runs.append([(i.kind, i.status, i.title) for i in last(insights([*out, *graph.finish()]))])
    assert runs[0] == runs[1]
    assert [kind for kind, _, _ in runs[0]] == ["latency_spike"]
