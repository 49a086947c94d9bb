"""Laws of every machine in the graph, each alone: its last outputs depend on its events and on nothing else.

`Checked` (tests.support.driving) holds at every call of every run here: no timer in the past, no unbounded number of
timers, no state left at the end of the input, and neither an event nor an output that changes after it was handed on.
"""

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.graph import stages
from operators import emission as emission
from operators.machine import BEGIN_OF_TIME
from operators.runtime.local import LocalGraph
from tests.support.driving import (
    HOUR_MS,
    assert_same,
    checked,
    courses,
    graph_config,
    insights,
    last_revisions,
    restarts,
    restored,
    run,
    summary,
)
from tests.support.machines import MACHINES, TWINS, eventful, events_of, stage_of
from tests.support.stories import Story, stories
from tests.support.traffic import (
    OUT_OF_ORDER_MS,
    START_MS,
    displaced,
    messages,
)

DISPLACED_MS = 10_000  # with AGE_MS_MAX and OUT_OF_ORDER_MS under the lateness: no record falls behind

# Reason with which an open insight is closed when its service is forgotten.
EXPIRED = {
    "latency-spike": "no more spans",
    "error-patterns": "no more lines",
    "request-effects": "no more requests",
    "deploys": "no more records of the service",
    "sequences": "no telemetry of the environment for so long",
}
GOING_ON = ("open", "updated")
each_machine = pytest.mark.parametrize("uid", MACHINES)
# An example runs a story of hundreds of spans several times: a fifth of the examples of the profile. What is drawn does
# not depend on the machine, so all machines get the same stories, and each message is folded once.
few = settings(max_examples=settings().max_examples // 5)


def test_each_stage_has_laws_or_shares_machine_codec_and_settings_with_one_that_has() -> None:
    assert sorted((*MACHINES, *TWINS)) == sorted(stage.uid for stage in stages(graph_config()))
    for uid, other in TWINS.items():
        machine, twin = stage_of(other).machine, stage_of(uid).machine
        assert type(twin).on_event is type(machine).on_event
        assert type(twin).on_timer is type(machine).on_timer
        assert twin.codec is machine.codec


@each_machine
@few
@given(story=stories(), places=st.sets(st.integers(0, 2**16), max_size=4))
def test_a_restart_at_any_cut_changes_nothing(uid: str, story: Story, places: set[int]) -> None:
    events = events_of(uid, messages(story))
    cuts = {place % (4 * len(events) + 5) for place in places}
    assert run([stage_of(uid)], events, restarts(cuts.__contains__)) == run([stage_of(uid)], events)


@each_machine
@few
@given(story=stories(), places=st.sets(st.integers(0, 2**16), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_a_restore_repeats_and_loses_nothing(uid: str, story: Story, places: set[int], seed: int) -> None:
    """The watermark begins anew: windows that ended before the checkpoint are not evaluated as if others had not.

    Courses are those of a job that goes on while its event time stands still: what opens early and is retracted when
    the last parts of its window come depends on the watermarks between them.
    """
    events = events_of(uid, displaced(messages(story), Random(seed), DISPLACED_MS))
    cuts = {place % (len(events) + 1) for place in places}
    found = restored(stage_of(uid), events, cuts)
    assert_same(found, run([stage_of(uid)], events))
    assert courses(found) == courses(restored(stage_of(uid), events, cuts, restart=False))


@each_machine
@few
@given(story=stories(), seed=st.integers(0, 99), every=st.integers(1, 40))
def test_an_insight_opens_first_and_never_after_its_end(uid: str, story: Story, seed: int, every: int) -> None:
    events = events_of(uid, displaced(messages(story), Random(seed), DISPLACED_MS))
    graph, newest_ms = LocalGraph([stage_of(uid)]), START_MS
    course: dict[str, str] = {}
    for first in range(0, len(events) + every, every):
        part = events[first : first + every]
        out = graph.feed(event for _, event in part)
        newest_ms = max((newest_ms, *(timestamp_ms for timestamp_ms, _ in part)))
        out += graph.advance(newest_ms - OUT_OF_ORDER_MS) if part else graph.finish()
        ids = [insight.insight_id for insight in insights(out)]
        assert len(set(ids)) == len(ids), "two revisions of one insight in one advance of event time"
        for insight in insights(out):
            before = course.get(insight.insight_id, "")
            assert before != "closed", f"{insight.status} after closed"
            assert (insight.status == "updated") == (
                insight.status not in ("closed", "retracted") and before in GOING_ON
            )
            course[insight.insight_id] = insight.status


@each_machine
@few
@given(story=stories(), chunk=st.integers(2, 30), seed=st.integers(0, 99))
def test_the_order_of_events_between_two_watermarks_changes_no_last_revision_and_no_sum(
    uid: str, story: Story, chunk: int, seed: int
) -> None:
    events = events_of(uid, messages(story))
    random = Random(seed)
    shuffled = []
    for first in range(0, len(events), chunk):
        part = events[first : first + chunk]
        shuffled += random.sample(part, len(part))
    plain = run([stage_of(uid)], events, advance_every=chunk)
    assert_same(run([stage_of(uid)], shuffled, advance_every=chunk), plain)


@each_machine
@few
@given(story=stories(), seed=st.integers(0, 99))
def test_messages_out_of_order_within_lateness_change_no_last_revision_and_no_sum(
    uid: str, story: Story, seed: int
) -> None:
    sent = messages(story)
    other = displaced(sent, Random(seed), DISPLACED_MS)
    assert_same(run([stage_of(uid)], events_of(uid, other)), run([stage_of(uid)], events_of(uid, sent)))


@each_machine
@few
@given(story=stories())
def test_how_often_the_watermark_moves_changes_no_last_revision_and_no_sum(uid: str, story: Story) -> None:
    events = events_of(uid, messages(story))
    each = run([stage_of(uid)], events)
    for advance_every in (10, 0):
        assert_same(run([stage_of(uid)], events, advance_every=advance_every), each)


@each_machine
@few
@given(story=stories())
def test_early_and_final_emission_end_with_the_same_revisions(uid: str, story: Story) -> None:
    events = events_of(uid, messages(story))
    early, final = (run([stage_of(uid, emit_when)], events) for emit_when in ("early", "final"))
    assert last_revisions(early) == last_revisions(final)
    assert "retracted" not in {insight.status for insight in insights(final)}, "a final insight is never retracted"


@each_machine
@few
@given(story=stories(), seed=st.integers(0, 99))
def test_revisions_of_an_insight_count_up_from_zero_and_differ(uid: str, story: Story, seed: int) -> None:
    sent = messages(story)
    events = events_of(uid, displaced(sent, Random(seed), DISPLACED_MS))
    newest: dict[str, Any] = {}
    for insight in insights(run([stage_of(uid)], events)):
        before = newest.get(insight.insight_id)
        assert insight.revision == (before.revision + 1 if before else 0)
        assert insight != (before and msgspec.structs.replace(before, revision=insight.revision)), "nothing changed"
        assert insight.evidence.traces or insight.evidence.kafka
        newest[insight.insight_id] = insight


@each_machine
@few
@given(story=stories(), places=st.sets(st.integers(0, 2**16), max_size=8))
def test_a_timer_that_the_key_did_not_ask_for_changes_nothing(uid: str, story: Story, places: set[int]) -> None:
    events = events_of(uid, messages(story))
    stray = {place % (len(events) + 1) for place in places}
    stage = stage_of(uid)
    graph, plain = LocalGraph([checked(stage)]), run([stage], events)
    out, newest_ms = [], BEGIN_OF_TIME
    for count, (timestamp_ms, event) in enumerate(events):
        out += graph.feed((event,))
        newest_ms = max(newest_ms, timestamp_ms - OUT_OF_ORDER_MS)
        out += graph.advance(newest_ms)
        key = stage.key.of(event)
        if count in stray and graph.state(uid, key) is not None:
            out += graph.fire(uid, key, newest_ms)
    assert_same(out + graph.finish(), plain)


@each_machine
@few
@given(story=stories())
def test_an_idle_key_is_forgotten_and_only_closes_the_episodes_it_had_open(uid: str, story: Story) -> None:
    sent = messages(story)
    events = events_of(uid, sent)
    graph = LocalGraph([checked(stage_of(uid))])
    out = graph.feed(event for _, event in events)
    newest_ms = max((timestamp_ms for timestamp_ms, _ in events), default=START_MS)
    out += graph.advance(newest_ms + 10 * 24 * HOUR_MS)
    assert not graph.state_bytes(), "a key still has a state after ten days without an event"
    assert graph.finish() == []
    if events and not uid.startswith("pre-aggregate-traces"):
        assert graph.counts["states_forgotten_total"] >= 1
    plain = run([stage_of(uid)], events)
    assert summary(out) == summary(plain)
    held, before = last_revisions(out), last_revisions(plain)
    assert held.keys() == before.keys()
    for insight_id, insight in before.items():
        if uid in EXPIRED and insight["status"] != "closed":
            evicted = EXPIRED[uid]
            assert (held[insight_id]["status"], held[insight_id]["reason"]) == ("closed", evicted)
        else:
            assert held[insight_id] == insight


@each_machine
def test_a_key_with_late_records_alone_has_a_timer_for_each_window_and_no_loop_of_timers(uid: str) -> None:
    sent = messages(Story(windows=4, late_share=1.0, services=1))
    run([stage_of(uid)], events_of(uid, sent))  # `Checked` counts the timers


@pytest.mark.parametrize("uid", ["latency-spike", "telemetry-gap", "error-patterns", "request-effects", "deploys"])
def test_the_cache_of_evaluated_windows_changes_no_result(uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events = events_of(uid, eventful(uid))
    plain = run([stage_of(uid)], events)
    for names_max in (0, 30):
        monkeypatch.setattr(emission, "REMEMBERED_NAMES_MAX", names_max)
        assert run([stage_of(uid)], events) == plain


def test_the_stories_do_make_insights_of_every_kind() -> None:
    """Without it, the laws above would hold for a machine that never emits anything."""
    kinds = {
        uid: {insight.kind for insight in insights(run([stage_of(uid)], events_of(uid, eventful(uid))))}
        for uid in MACHINES
    }
    assert kinds == {
        "pre-aggregate-traces": set(),
        "pre-aggregate-logs": set(),
        "call-pairs": set(),
        "latency-spike": {"latency_spike", "error_ratio"},
        "error-patterns": {"error_pattern_new", "error_pattern_returned"},
        "novelty-traces": {"error_pattern_new"},
        "request-effects": {"pattern_missing", "trace_shape_change"},
        "log-silence": {"pattern_missing"},
        "rule-signals": set(),
        "sequences": {"sequence_match", "sequence_missing"},
        "deploys": {"deploy"},
        "telemetry-gap": {"telemetry_gap"},
    }
