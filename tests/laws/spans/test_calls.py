"""Laws of calls: which call sides pair, what a call adds to its caller, and which traces are dropped beyond a bound."""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.graph import stages
from operators.ingest.call_pairs import CallPairs
from operators.machine import Stage
from operators.runtime.local import LocalGraph
from state_schemas.aggregates.calls import CALL_SIDE_DTYPE, CallSides
from state_schemas.aggregates.spans import Dimension, SpanAggregate
from state_schemas.contracts.tables import EdgeRow
from state_schemas.telemetry.spans import KIND_CLIENT, KIND_SERVER
from tests.support.driving import graph_config, run
from tests.support.machines import events_of, folded
from tests.support.stories import Story, stories
from tests.support.traffic import LATENESS_MS, START_MS, WINDOW_MS, OneSpan, Sent, displaced, messages, sides
from udfs.spans.calls import BUCKETS, PairLimits, trace_hash
from udfs.spans.message import CALL_SIDES_MAX
from udfs.spans.window import rows
from udfs.stats.duration_histogram import quantile_ns

few = settings(max_examples=settings().max_examples // 5)
LIMITS = PairLimits(lateness_ms=LATENESS_MS)
GRAPH = stages(graph_config())


def pairing(sides_max: int = 8_192) -> Stage:
    stage = next(stage for stage in GRAPH if stage.uid == "call-pairs")
    return replace(stage, machine=CallPairs(replace(LIMITS, sides_max=sides_max)))


def paired(sent: list[Sent], every: int = 1) -> list[SpanAggregate]:
    return run([pairing()], events_of("call-pairs", sent), advance_every=every)


def calls_of(aggregates: list[SpanAggregate]) -> Counter[tuple[Any, ...]]:
    """Return the number of calls by (caller, callee, window start, late)."""
    found: Counter[tuple[Any, ...]] = Counter()
    for aggregate in aggregates:
        for start_ms, late, table in aggregate.windows:
            for series, sketch in rows(table):
                if series.dimension is Dimension.CALLEE:
                    found[aggregate.service, series.name, start_ms, late] += sketch.spans
    return found


def calls_by_hand(sent: list[Sent]) -> Counter[tuple[Any, ...]]:
    """Return the same numbers from one loop over spans with a dictionary of client spans."""
    clients = {
        (span.trace, span.number): (span, message.timestamp_ms)
        for message in sent
        for span in message.spans
        if span.kind == KIND_CLIENT
    }
    found: Counter[tuple[Any, ...]] = Counter()
    for message in sent:
        for span in message.spans:
            if span.kind != KIND_SERVER or (span.trace, span.parent) not in clients:
                continue
            client, sent_ms = clients[span.trace, span.parent]
            if abs(sent_ms - message.timestamp_ms) > LIMITS.pair_ms:
                continue
            newest_ms = max(sent_ms, message.timestamp_ms)
            late = client.end_ms < newest_ms - LATENESS_MS or span.end_ms < message.timestamp_ms - LATENESS_MS
            found[client.service, span.service, client.end_ms - client.end_ms % 10_000, late] += 1
    return found


@few
@given(stories(), st.integers(1, 40))
def test_every_call_with_both_call_sides_is_counted_once(story: Story, every: int) -> None:
    sent = messages(replace(story, calls=True, services=2))
    assert calls_of(paired(sent, every=every)) == calls_by_hand(sent)


@few
@given(stories(), st.integers(0, 99))
def test_call_sides_pair_in_any_order(story: Story, seed: int) -> None:
    sent = messages(replace(story, calls=True, services=2))
    assert calls_of(paired(displaced(sent, Random(seed), 10_000))) == calls_by_hand(sent)


def call(
    number: int, *, gap_ms: float = 40.0, skew_ms: int = 0, sent_apart_ms: int = 0, work_ms: float = 100.0
) -> list[Sent]:
    """Return a client span in one message and its server span in another, whose clock is ahead by skew_ms.

    gap_ms: network time.
    """
    at_ms = START_MS + number * 10
    server = OneSpan("b", at_ms + skew_ms, work_ms, 2 * number + 2, trace=number + 1, parent=2 * number + 1)
    client = OneSpan(
        "a", at_ms + round(gap_ms / 2), work_ms + gap_ms, 2 * number + 1, "h", "call b", KIND_CLIENT, trace=number + 1
    )
    return [
        Sent(at_ms + 1_000, (client,), 0, number),
        Sent(at_ms + 1_000 + sent_apart_ms, (server,), 1, number),
    ]


@pytest.mark.parametrize("skew_ms", [-900, -3, 0, 3, 900])
def test_network_time_and_clock_skew_do_not_affect_each_other(skew_ms: int) -> None:
    sent = [message for number in range(40) for message in call(number, skew_ms=skew_ms)]
    found = {dimension: Counter[int]() for dimension in Dimension}
    for aggregate in paired(sent):
        for _, _, table in aggregate.windows:
            for series, sketch in rows(table):
                found[series.dimension].update(dict(zip(sketch.bins.tolist(), sketch.counts.tolist(), strict=True)))
    quantile = {
        dimension: quantile_ns(np.array(sorted(bins)), np.array([bins[b] for b in sorted(bins)]), 0.5) / 1e6
        for dimension, bins in found.items()
        if bins
    }
    assert quantile[Dimension.CALLEE] == pytest.approx(140, rel=0.01)
    assert quantile[Dimension.NETWORK_TIME] == pytest.approx(40, rel=0.01)
    if skew_ms:
        side, other = (Dimension.AHEAD, Dimension.BEHIND)[:: 1 if skew_ms > 0 else -1]
        assert quantile[side] == pytest.approx(abs(skew_ms), rel=0.01)
        assert other not in quantile


def test_edge_rows_hold_the_signed_clock_skew_of_the_callee() -> None:
    for skew_ms in (-250, 250):
        events = folded(message for n in range(30) for message in call(n, skew_ms=skew_ms))
        edges = [row for row in run(GRAPH, events) if isinstance(row, EdgeRow)]
        assert {(row.service, row.callee, row.resolution_s, row.count) for row in edges} == {
            ("a", "b", resolution_s, 30) for resolution_s in (10, 60, 300)
        }
        assert all(row.clock_skew_ms_p50 == pytest.approx(skew_ms, rel=0.01) for row in edges)
        assert all(row.gap_ms_p95 == pytest.approx(40, rel=0.01) for row in edges)


def test_call_sides_sent_too_far_apart_do_not_pair_and_leave_no_state() -> None:
    apart = [message for n in range(5) for message in call(n, sent_apart_ms=LIMITS.pair_ms + 1)]
    near = [message for n in range(5) for message in call(n, sent_apart_ms=LIMITS.pair_ms)]
    assert not calls_of(paired(sorted(apart, key=lambda m: m.timestamp_ms)))
    assert sum(calls_of(paired(sorted(near, key=lambda m: m.timestamp_ms))).values()) == 5
    graph = LocalGraph([pairing()])
    for message in apart[:2]:
        graph.feed(sides(message))
    assert graph.state_bytes()
    graph.advance(apart[1].timestamp_ms + 2 * LIMITS.pair_ms)
    assert not graph.state_bytes()


def test_a_message_that_comes_twice_pairs_once() -> None:
    sent = [message for n in range(5) for message in call(n)]
    again = [message._replace(offset=message.offset + 50) for message in sent]
    assert calls_of(paired(sent + again)) == calls_of(paired(sent))


def test_beyond_the_bound_whole_traces_are_dropped_and_counted() -> None:
    """Both sides of a trace are kept or dropped: dropping single call sides would leave almost no pairs."""
    traces, bound = 1_000, 50
    sent = [message for n in range(traces) for message in call(n, sent_apart_ms=5_000)]
    sent.sort(key=lambda message: message.timestamp_ms)
    graph = LocalGraph([pairing(bound)])
    out: list[SpanAggregate] = []
    newest_ms = 0
    for number, message in enumerate(sent):
        out += graph.feed(sides(message))
        newest_ms = max(newest_ms, message.timestamp_ms)
        out += graph.advance(newest_ms - 5_000)
        for (_, key), size in graph.state_bytes().items() if number % 8 == 0 else ():
            assert size < (bound * 3 // 2 + 100) * CALL_SIDE_DTYPE.itemsize + 400, key
    out += graph.finish()
    found = sum(calls_of(out).values())
    assert graph.counts["call_sides_dropped_total"] > 0
    # A bucket holds 50 call sides, and 62 client spans wait in it for their server spans at any time.
    assert traces // 20 < found < traces
    assert found == graph.counts["calls_paired_total"]


def test_each_call_side_is_held_or_counted_as_dropped() -> None:
    """Client spans alone, while event time stands still: none is paired and none is too old."""
    graph, came = LocalGraph([pairing(50)]), Counter[str]()
    for number in range(1_000):
        for event in sides(call(number)[0]):
            came[f"{event.env}|{event.bucket}"] += _count(event)
            graph.feed((event,))
    states = {key: graph.state(uid, key) for uid, key in graph.state_bytes()}
    held = sum(_count(part) for state in states.values() for part in (state.held, *state.waiting))
    assert came.keys() == states.keys()
    assert 0 < held < 50 * len(states) * 3 // 2 < sum(came.values())
    assert graph.counts["call_sides_dropped_total"] == sum(came.values()) - held


def test_paired_call_sides_are_removed_before_any_trace_is_dropped() -> None:
    sent = [message for n in range(1_000) for message in call(n)]
    graph = LocalGraph([pairing(50)])
    out: list[Any] = []
    for message in sent:
        out += graph.feed(sides(message))  # event time does not advance: no call side expires
    out += graph.finish()
    assert sum(calls_of(out).values()) == 1_000
    assert graph.counts["call_sides_dropped_total"] == 0


def test_the_sampling_rate_returns_to_one_when_there_is_room_again() -> None:
    machine = CallPairs(replace(LIMITS, sides_max=100))
    state = machine.initial("prod|0")
    state.sampling_log2 = 3
    now_ms = START_MS
    for _ in range(3):
        (event, *_) = sides(call(0)[0])
        state.held = event
        step = machine.on_timer(state, now_ms)
        assert step.state is not None
        state = step.state
    assert state.sampling_log2 == 0


def _count(event: CallSides) -> int:
    return len(event.sides) // CALL_SIDE_DTYPE.itemsize


def test_messages_of_callers_and_of_callees_select_the_same_traces() -> None:
    """200 calls in two messages: each message selects its CALL_SIDES_MAX lowest hashes, so all selected sides pair."""
    clients = tuple(call(n)[0].spans[0]._replace(end_ms=START_MS + 50) for n in range(200))
    servers = tuple(call(n)[1].spans[0]._replace(end_ms=START_MS + 40) for n in range(200))
    sent = [Sent(START_MS + 1_000, clients, 0, 0), Sent(START_MS + 1_000, servers, 1, 0)]
    assert sum(calls_of(paired(sent)).values()) == CALL_SIDES_MAX


def test_a_call_is_found_among_many_others_of_its_trace() -> None:
    """Each request calls a database nine times, in client spans without a server span, before it calls cart."""
    sent = []
    for n in range(40):
        client, server = call(n)
        asks = tuple(
            client.spans[0]._replace(number=10_000 + 10 * n + ask, operation="SELECT", trace=client.spans[0].trace)
            for ask in range(9)
        )
        sent += [client._replace(spans=asks + client.spans), server]
    found = sum(calls_of(paired(sent)).values())
    # Four of ten client spans are selected, by hash.
    assert 5 < found < 40


def test_a_call_side_whose_clock_is_ahead_waits_no_longer_than_its_message() -> None:
    """If the end of the span (200 s ahead) decided how long it waits, the call would come after its window is final."""
    client, server = call(0)
    ahead = server._replace(spans=(server.spans[0]._replace(end_ms=server.spans[0].end_ms + 200_000),))
    machine = CallPairs(LIMITS)
    for first, second in ((client, ahead), (ahead, client)):
        state = machine.initial("prod|0")
        for message in (first, second):
            (event, *_) = sides(message)
            step = machine.on_event(state, event, message.timestamp_ms - 5_000)
            assert step.state is not None
            assert step.timer_at_ms is not None
            assert step.timer_at_ms <= message.timestamp_ms + WINDOW_MS
            state = step.state


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, unique=True))
def test_hashes_of_distinct_traces_differ(traces: list[tuple[int, int]]) -> None:
    high, low = (np.array(part, np.uint64) for part in zip(*traces, strict=True))
    assert len(set(trace_hash(high, low).tolist())) == len(traces)


@pytest.mark.parametrize("step", [1, 1 << 32, 1 << 63], ids=["counter", "time-first", "top-bit"])
def test_hashes_are_evenly_distributed_for_each_scheme_of_trace_ids(step: int) -> None:
    """AWS X-Ray puts seconds into the first 32 bits; a counter fills the last bits only."""
    numbers = np.arange(4_096, dtype=np.uint64) * np.uint64(step % 2**64 or 1)
    high = numbers if step > 1 else np.zeros(4_096, np.uint64)
    low = np.arange(4_096, dtype=np.uint64) if step != 1 << 32 else np.zeros(4_096, np.uint64)
    hashes = trace_hash(high, low)
    for part in ((hashes & np.uint64(BUCKETS - 1)), hashes >> np.uint64(61)):
        counts = np.bincount(part.astype(np.int64), minlength=8)
        assert counts.min() > 0.8 * 4_096 / 8
        assert counts.max() < 1.2 * 4_096 / 8
