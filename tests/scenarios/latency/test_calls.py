"""Insights about calls: a slow network has no span of its own, and a service that waits names its callee."""

from collections.abc import Callable
from itertools import count
from math import ceil

import pytest

from state_schemas.contracts.insight import Insight
from state_schemas.telemetry.spans import KIND_CLIENT
from tests.support.timeline import emitted, last, window_of
from tests.support.traffic import START_MS, WINDOW_MS, OneSpan, Sent
from udfs.stats.duration_histogram import RELATIVE_ERROR

CALLS = 8  # in a window, in two messages
USUAL_WINDOWS = 40
Distribution = Callable[[int], float]  # index of a window -> latency in ms


def shop(windows: int, gap_ms: Distribution, work_ms: Distribution, entry: bool = True) -> list[Sent]:
    """Return messages in which `front` calls `cart` in each window, client and server spans in separate messages.

    gap_ms: network time. work_ms: duration of the server span.
    entry: front answers requests itself, in 80 ms whatever the latency of its calls.
    The clock of cart is 400 ms ahead.
    """
    numbers, sent = count(1), []
    for window in range(windows):
        client, server = [], []
        for index in range(CALLS):
            end_ms = START_MS + window * WINDOW_MS + 900 * index + 400
            number, trace = next(numbers), 10_000 + window * CALLS + index
            took_ms = work_ms(window) + gap_ms(window) + index % 3
            client.append(OneSpan("front", end_ms, took_ms, number, "f-0", "call cart", KIND_CLIENT, trace=trace))
            if entry:
                client.append(OneSpan("front", end_ms, 80 + index % 3, next(numbers), "f-0", "GET /", trace=trace))
            own = OneSpan("cart", end_ms + 400, work_ms(window) + index % 3, next(numbers), "c-0", trace=trace)
            server.append(own._replace(parent=number))
        at_ms = START_MS + (window + 1) * WINDOW_MS
        for spans in (client, server):  # no message holds more calls than are selected for pairing
            middle = len(spans) // 2
            sent += [Sent(at_ms, tuple(part), 0, 0) for part in (spans[:middle], spans[middle:])]
    return [message._replace(offset=offset) for offset, message in enumerate(sent)]


def slow_from(first: int, windows: int, usual_ms: float, slow_ms: float) -> Distribution:
    return lambda window: slow_ms if first <= window < first + windows else usual_ms


def only(revisions: list[Insight]) -> Insight:
    (insight,) = last(revisions)
    return insight


@pytest.mark.parametrize("entry", [True, False], ids=["answers requests too", "only calls"])
def test_a_slow_network_is_an_insight_of_the_caller_that_names_the_callee(entry: bool) -> None:
    sent = shop(USUAL_WINDOWS + 30, slow_from(USUAL_WINDOWS, 8, 2, 300), lambda _: 50, entry)
    insight = only(emitted(sent, "final"))
    assert (insight.kind, insight.service, insight.subject) == ("latency_spike", "front", "cart")
    assert (window_of(insight.window.start_ms), window_of(insight.window.end_ms)) == (USUAL_WINDOWS, USUAL_WINDOWS + 8)
    assert insight.status == "closed"
    assert insight.evidence.edges == ("front -> cart",)
    assert insight.title.startswith("front: P95 network time to cart 303 ms (usually 2 ms) since 22:21:40, ")


def test_a_slow_callee_is_an_insight_at_both_ends_and_the_callers_has_a_usual_network_time() -> None:
    """The latency is in cart, and the network time is as usual."""
    sent = shop(USUAL_WINDOWS + 30, lambda _: 2, slow_from(USUAL_WINDOWS, 8, 50, 700))
    at_cart, at_front = sorted(last(emitted(sent, "final")), key=lambda insight: insight.service)
    assert (at_cart.service, at_cart.subject) == ("cart", "")
    assert (at_front.service, at_front.subject) == ("front", "cart")
    assert at_front.title.startswith("front: P95 latency of calls to cart 70")
    assert ", P95 network time 2 ms, " in at_front.title
    assert at_front.measures["gap_ms_p95"] == pytest.approx(2, rel=0.04)


def test_the_numbers_of_a_call_insight_can_be_recomputed_from_its_evidence() -> None:
    """The client spans of its window at its Kafka offsets give the measures and the slowest trace."""
    sent = shop(USUAL_WINDOWS + 30, lambda _: 2, slow_from(USUAL_WINDOWS, 8, 50, 700))
    (insight,) = (candidate for candidate in last(emitted(sent, "final")) if candidate.service == "front")
    ranges = [(part.first_offset, part.last_offset) for part in insight.evidence.kafka]
    read = [message for message in sent if any(first <= message.offset <= final for first, final in ranges)]
    window = range(insight.window.start_ms, insight.window.end_ms)
    calls = [s for message in read for s in message.spans if s.kind == KIND_CLIENT and s.end_ms in window]
    latencies = sorted(span.latency_ms for span in calls)
    assert insight.measures["sampled_calls"] == len(calls)
    assert insight.measures["slow_spans"] == sum(ms >= insight.measures["threshold_latency_ms"] for ms in latencies)
    exact_ms = latencies[ceil(0.95 * len(latencies)) - 1]
    # Series other than the service itself have bins four times as wide.
    assert insight.measures["latency_ms_p95"] == pytest.approx(exact_ms, rel=4 * RELATIVE_ERROR)
    (slowest,) = insight.evidence.traces
    assert slowest.latency_ms == pytest.approx(latencies[-1])
    assert (slowest.host, slowest.operation) == ("f-0", "call cart")


def test_a_clock_skew_is_no_slow_network() -> None:
    """The clock of cart jumps by 250 s: durations stay the same, so no insight opens."""
    sent = shop(USUAL_WINDOWS + 20, lambda _: 2, lambda _: 50)
    moved = [
        message._replace(spans=tuple(span._replace(end_ms=span.end_ms + 250_000) for span in message.spans))
        if message.spans[0].service == "cart" and message.offset > 4 * USUAL_WINDOWS
        else message
        for message in sent
    ]
    assert [insight for insight in last(emitted(moved, "final")) if insight.kind == "latency_spike"] == []


def test_an_insight_of_a_waiting_service_names_the_callee() -> None:
    """Its entry spans last as long as the calls in them."""
    sent = shop(USUAL_WINDOWS + 12, slow_from(USUAL_WINDOWS, 8, 2, 900), lambda _: 50, entry=False)
    with_entries = []
    for message in sent:
        entries = [
            span._replace(number=span.number + 1_000_000, kind=2, operation="GET /", latency_ms=span.latency_ms + 20)
            for span in message.spans
            if span.kind == KIND_CLIENT
        ]
        with_entries.append(message._replace(spans=(*message.spans, *entries)))
    insight = only(emitted(with_entries, "final"))
    assert (insight.service, insight.subject) == ("front", "")
    assert insight.evidence.callees[0].name == "cart"
    assert insight.evidence.edges == ("front -> cart",)
