"""A hot service: its key gets no more events than others, because pre-aggregation precedes the keying by service."""

from collections import Counter
from typing import Any

from jobs.graph import stages
from operators.runtime.local import LocalGraph
from state_schemas.aggregates.spans import SpanAggregate
from tests.support.driving import graph_config, insights, rollup_sums, run
from tests.support.traffic import OUT_OF_ORDER_MS, START_MS, WINDOW_MS, OneSpan, Sent, fold

GRAPH = stages(graph_config())
PARTITIONS = 4
HOT = 90  # of a hundred spans a second


def sent_by_fleet(hot: int, windows: int = 20, slow: range = range(12, 18)) -> list[Sent]:
    """Return messages of ten services with a span a second, and of one with `hot`; `svc-3` is slow in some windows."""
    sent, number = [], 0
    for second in range(windows * WINDOW_MS // 1_000):
        at_ms = START_MS + (second + 1) * 1_000
        window = second * 1_000 // WINDOW_MS
        names = [*(f"svc-{n}" for n in range(10)), *["hot"] * hot]
        spans = []
        for index, name in enumerate(names):
            number += 1
            slow_now = name == "svc-3" and window in slow
            spans.append(OneSpan(name, at_ms - 1 - index % 900, 900 if slow_now else 20 + index % 5, number))
        sent += [Sent(at_ms, tuple(spans[part::PARTITIONS]), part, second) for part in range(PARTITIONS)]
    return sent


def aggregates_by_service(sent: list[Sent]) -> Counter[str]:
    """Count the events that the key of each service gets."""
    graph = LocalGraph([stage for stage in GRAPH if stage.uid == "pre-aggregate-traces"])
    out: list[Any] = []
    for message in sent:
        out += graph.feed((fold(message).message,))
        out += graph.advance(message.timestamp_ms - OUT_OF_ORDER_MS)
    out += graph.finish()
    return Counter(aggregate.service for aggregate in out if isinstance(aggregate, SpanAggregate))


def test_a_hundred_times_the_traffic_adds_no_event() -> None:
    found = aggregates_by_service(sent_by_fleet(HOT, windows=10))
    seconds = 10 * WINDOW_MS // 1_000
    assert found["hot"] == seconds * PARTITIONS
    even = aggregates_by_service(sent_by_fleet(PARTITIONS, windows=10))  # a span a second and partition
    assert found["hot"] == even["hot"]


def test_a_hot_service_changes_no_result_of_other_services() -> None:
    """Compare roll-ups and insights of ten services alone with those beside a service of ninety times their traffic."""

    def of_the_others(hot: int) -> tuple[Any, ...]:
        events = [(message.timestamp_ms, fold(message).message) for message in sent_by_fleet(hot) if message.spans]
        out = run(GRAPH, events)
        rows = {key: found for key, found in rollup_sums(out).items() if key[4] != "hot"}
        brief = [(i.kind, i.service, i.status, i.window, i.measures) for i in insights(out) if i.service != "hot"]
        return rows, brief

    even, beside_hot = of_the_others(1), of_the_others(HOT)
    assert beside_hot == even
    assert {kind for kind, *_ in even[1]} == {"latency_spike"}
