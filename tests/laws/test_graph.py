"""Laws of the whole graph on one stream of messages: every span is counted exactly once, however it is sent."""

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.graph import stages
from operators.runtime.local import LocalGraph, through_bytes
from state_schemas.contracts.tables import RESOLUTIONS_S
from state_schemas.telemetry.spans import SPAN_KINDS
from tests.support.driving import assert_same, graph_config, insights, last_revisions, pattern_sums, rollup_sums, run
from tests.support.machines import folded
from tests.support.stories import Story, busy, stories
from tests.support.traffic import AGE_MS_MAX, LATENESS_MS, OneSpan, Sent, displaced, fold, messages, split, without_late

GRAPH = stages(graph_config())
few = settings(max_examples=settings().max_examples // 5)  # as in test_machines
DAY_MS = 86_400_000
BAD_ENDS_MS = (0, 7_258_118_400_000, 400_000, -8 * DAY_MS)  # no time, the year 2200, 400 s ahead, 8 days old


def run_graph(sent: list[Sent]) -> list[Any]:
    return run(GRAPH, folded(sent))


def with_bad_spans(sent: list[Sent], random: Random) -> list[Sent]:
    """Add a span that cannot be counted to some messages, and repeat a span in others."""
    spoilt = []
    for message in sent:
        spans = list(message.spans)
        if random.random() < 0.3:
            bad_ms = random.choice(BAD_ENDS_MS)
            at_ms = bad_ms if bad_ms in BAD_ENDS_MS[:2] else message.timestamp_ms + bad_ms
            spans.append(spans[0]._replace(end_ms=at_ms, latency_ms=0, number=spans[0].number + 1_000_000))
        if random.random() < 0.3:
            spans.append(spans[-1]._replace(latency_ms=-1, number=spans[-1].number + 2_000_000))
        if random.random() < 0.3:
            spans.append(random.choice(spans))
        spoilt.append(message._replace(spans=tuple(spans)))
    return spoilt


def counted_by_hand(sent: list[Sent]) -> Counter[tuple[Any, ...]]:
    """Count in one loop over spans: (resolution, window, late, env, service, dimension, name, kind) -> spans."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for message in sent:
        for span in message.spans:
            for resolution_s in RESOLUTIONS_S:
                late = span.end_ms < message.timestamp_ms - LATENESS_MS
                start_ms = span.end_ms - span.end_ms % (resolution_s * 1000)
                for dimension, name in (("service", ""), ("host", span.host), ("operation", span.operation)):
                    key = (resolution_s, start_ms, late, span.env, span.service)
                    counts[(*key, dimension, name, SPAN_KINDS[span.kind])] += 1
    return counts


@few
@given(stories(), st.randoms(use_true_random=False))
def test_every_span_is_counted_in_exactly_one_place_at_every_resolution(story: Story, random: Random) -> None:
    sent = with_bad_spans(messages(story), random)
    sums = rollup_sums(run(GRAPH, folded(sent)))
    spans_sent = sum(len(message.spans) for message in sent)
    spans_rejected = sum(letter.records for message in sent for letter in fold(message).dead_letters)
    for resolution_s in RESOLUTIONS_S:
        for dimension in ("service", "host", "operation"):
            counted = sum(sums[key][0] for key in sums if (key[0], key[5]) == (resolution_s, dimension))
            assert counted + spans_rejected == spans_sent, (resolution_s, dimension)


@few
@given(stories())
def test_roll_ups_are_what_a_loop_over_the_spans_counts(story: Story) -> None:
    sent = messages(story)
    sums = rollup_sums(run_graph(sent))
    assert {key: found[0] for key, found in sums.items()} == counted_by_hand(sent)


@few
@given(stories())
def test_exceptions_of_spans_and_log_records_are_counted_the_same_way_and_never_together(story: Story) -> None:
    sent = messages(story)
    sums = pattern_sums(run_graph(sent))
    by_source = [{key[:-1]: lines for key, lines in sums.items() if key[-1] == source} for source in ("logs", "spans")]
    assert by_source[0] == by_source[1]
    failed = sum(span.error for message in sent for span in message.spans)
    assert sum(lines for key, lines in by_source[1].items() if key[0] == 10) == failed


@few
@given(stories(), st.integers(1, 5), st.integers(0, 99))
def test_how_spans_are_cut_into_messages_changes_nothing_but_offsets(story: Story, spans_max: int, seed: int) -> None:
    sent = messages(story)
    cut = displaced(list(split(sent, spans_max)), Random(seed), AGE_MS_MAX)
    assert_same(run_graph(cut), run_graph(sent), kafka=False)


@few
@given(stories(), st.integers(1, 8))
def test_partitions_of_the_source_change_nothing_but_offsets(story: Story, partitions: int) -> None:
    sent = messages(story)
    offsets: Counter[int] = Counter()
    spread = []
    for number, message in enumerate(sent):
        partition = number % partitions
        spread.append(message._replace(partition=partition, offset=offsets[partition]))
        offsets[partition] += 1
    assert_same(run_graph(spread), run_graph(sent), kafka=False)


@few
@given(stories())
def test_late_spans_are_marked_and_change_no_insight(story: Story) -> None:
    sent = messages(story)
    with_late, without = run_graph(sent), run_graph(without_late(sent))
    assert last_revisions(with_late) == last_revisions(without)
    in_time = {key: found for key, found in rollup_sums(with_late).items() if not key[2]}
    assert in_time == rollup_sums(without)


@few
@given(stories())
def test_states_that_are_encoded_after_each_step_give_the_same_outputs(story: Story) -> None:
    events = folded(messages(story))
    assert run(GRAPH, events, through_bytes) == run(GRAPH, events)


def test_records_behind_the_watermark_are_counted_one_by_one_and_treated_as_late() -> None:
    """A partition that was idle sends old data: 3 spans of one window that is final already."""
    sent = messages(Story(windows=12, services=1))
    old = sent[0]._replace(spans=tuple(OneSpan("service-0", sent[0].timestamp_ms - 1, 20, 9_000 + n) for n in range(3)))
    graph = LocalGraph(GRAPH)
    out = graph.feed(event for _, event in folded(sent))
    out += graph.advance(sent[-1].timestamp_ms)
    out += graph.feed(event for _, event in folded([old]))
    out += graph.finish()
    assert last_revisions(out) == last_revisions(run_graph(sent))
    late = {key[5]: found[0] for key, found in rollup_sums(out).items() if key[2] and key[0] == 10}
    assert late == {"service": 3, "host": 3, "operation": 3}
    assert graph.counts["records_behind_total"] == 15  # latency, both stages of patterns, request effects, no data


def test_the_busy_story_has_insights() -> None:
    found = {insight.kind for insight in insights(run_graph(messages(busy())))}
    assert found >= {"latency_spike", "error_ratio"}


def test_a_final_window_stays_final_after_a_restore_whose_watermark_starts_anew() -> None:
    """Old data of a partition that was idle, before the first watermark after the restore."""
    sent = messages(Story(windows=12, services=1))
    old = sent[0]._replace(spans=(OneSpan("service-0", sent[0].timestamp_ms - 1, 20, 9_000),))
    before = LocalGraph(GRAPH)
    before.feed(event for _, event in folded(sent))
    before.advance(sent[-1].timestamp_ms)
    after = LocalGraph(GRAPH)
    for uid, key in before.state_bytes():
        after.restore(uid, key, before.state(uid, key))
    out = after.feed(event for _, event in folded([old]))
    out += after.advance(sent[-1].timestamp_ms + 1)
    late = {key[5]: found[0] for key, found in rollup_sums(out).items() if key[2] and key[0] == 10}
    assert late == {"service": 1, "host": 1, "operation": 1}
