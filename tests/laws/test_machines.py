"""Laws of every machine in the graph, each alone: its last outputs depend on its events and on nothing else.

`Checked` (tests.support.driving) holds at every call of every run here: no timer in the past, no unbounded number of
timers, no state left at the end of the input, and neither an event nor an output that changes after it was handed on.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.graph import stages
from operators import emission as emission
from operators.emission import EmitWhen
from operators.machine import BEGIN_OF_TIME, Stage
from operators.runtime.local import LocalGraph, through_bytes
from state_schemas.aggregates.message import FoldedMessage
from tests.support.driving import (
    HOUR_MS,
    Timed,
    checked,
    graph_config,
    insights,
    last_revisions,
    restarts,
    run,
    summary,
)
from tests.support.stories import Episode, Story, busy, stories
from tests.support.traffic import (
    OUT_OF_ORDER_MS,
    START_MS,
    Sent,
    activity,
    aggregates,
    displaced,
    effects,
    exception,
    fold,
    messages,
    sides,
    sightings,
    sightings_of_both,
    silence,
)

UIDS = [stage.uid for stage in stages(graph_config())]
SHORT = stories()
# No data is reported only of a service that was active in 30 windows: longer stories, with few spans.
LONG = stories(windows_min=50, windows_max=75, rate_max=2)
GAP_STORY = Story(windows=75, rate=2, holes=(Episode(1, 35, 18),))
DISPLACED_MS = 10_000  # with AGE_MS_MAX and OUT_OF_ORDER_MS under the lateness: no record falls behind


def stage_of(uid: str, emit_when: EmitWhen = "early") -> Stage:
    return next(stage for stage in stages(graph_config(emit_when)) if stage.uid == uid)


# Events of each machine, made of the messages of a story. A new stage has no laws before it is listed here.
EVENTS: dict[str, tuple[st.SearchStrategy[Story], Callable[[FoldedMessage], Iterator[Any]]]] = {
    "pre-merge": (SHORT, lambda message: iter((message,))),
    "pre-merge-logs": (SHORT, lambda message: iter((msgspec.structs.replace(message, signal="logs", spans=None),))),
    "pre-merge-metrics": (
        SHORT,
        lambda message: iter((msgspec.structs.replace(message, signal="metrics", spans=None, logs=()),)),
    ),
    "call-pairs": (SHORT, lambda message: iter(sides(message))),
    "latency-spike": (SHORT, lambda message: iter(aggregates(message))),
    "error-patterns": (SHORT, lambda message: iter(message.logs)),
    "error-patterns-traces": (SHORT, lambda message: iter(exception(message))),
    "pattern-news": (SHORT, lambda message: iter(sightings(message))),
    "pattern-news-traces": (SHORT, lambda message: iter(sightings_of_both(message))),
    "request-shapes": (SHORT, lambda message: iter(effects(message))),
    "log-silence": (SHORT, lambda message: iter(silence(message))),
    "telemetry-gap": (LONG, lambda message: iter(activity(message))),
}


def events_of(uid: str, sent: list[Sent]) -> list[Timed]:
    pairs = ((message.timestamp_ms, fold(message)[0]) for message in sent)
    return [(at_ms, event) for at_ms, folded in pairs if folded is not None for event in EVENTS[uid][1](folded)]


# Reason with which an open insight is closed when its service is forgotten.
EXPIRED = {
    "latency-spike": "no more spans",
    "error-patterns": "no more lines",
    "error-patterns-traces": "no more lines",
    "request-shapes": "no more requests",
}
each_machine = pytest.mark.parametrize("uid", UIDS)
# An example runs a story of hundreds of spans several times: a fifth of the examples of the profile takes 30 s.
few = settings(max_examples=settings().max_examples // 5)


def test_every_stage_of_the_graph_has_its_events() -> None:
    assert sorted(EVENTS) == sorted(UIDS)


@each_machine
@few
@given(data=st.data())
def test_a_restart_at_any_cut_changes_nothing(uid: str, data: st.DataObject) -> None:
    events = events_of(uid, messages(data.draw(EVENTS[uid][0])))
    cuts = data.draw(st.sets(st.integers(0, 4 * len(events) + 4), max_size=4))
    uncut = run([stage_of(uid)], events)
    assert run([stage_of(uid)], events, restarts(cuts.__contains__)) == uncut
    assert run([stage_of(uid)], events, through_bytes) == uncut


@each_machine
@few
@given(data=st.data())
def test_the_order_of_events_between_two_watermarks_changes_no_last_revision_and_no_sum(
    uid: str, data: st.DataObject
) -> None:
    events = events_of(uid, messages(data.draw(EVENTS[uid][0])))
    chunk, random = data.draw(st.integers(2, 30)), Random(data.draw(st.integers(0, 99)))
    shuffled = []
    for first in range(0, len(events), chunk):
        part = events[first : first + chunk]
        shuffled += random.sample(part, len(part))
    plain = run([stage_of(uid)], events, advance_every=chunk)
    assert summary(run([stage_of(uid)], shuffled, advance_every=chunk)) == summary(plain)


@each_machine
@few
@given(data=st.data())
def test_messages_out_of_order_within_lateness_change_no_last_revision_and_no_sum(
    uid: str, data: st.DataObject
) -> None:
    sent = messages(data.draw(EVENTS[uid][0]))
    other = displaced(sent, Random(data.draw(st.integers(0, 99))), DISPLACED_MS)
    assert summary(run([stage_of(uid)], events_of(uid, other))) == summary(run([stage_of(uid)], events_of(uid, sent)))


@each_machine
@few
@given(data=st.data())
def test_how_often_the_watermark_moves_changes_no_last_revision_and_no_sum(uid: str, data: st.DataObject) -> None:
    events = events_of(uid, messages(data.draw(EVENTS[uid][0])))
    each = summary(run([stage_of(uid)], events))
    for advance_every in (10, 0):
        assert summary(run([stage_of(uid)], events, advance_every=advance_every)) == each, advance_every


@each_machine
@few
@given(data=st.data())
def test_early_and_final_emission_end_with_the_same_revisions(uid: str, data: st.DataObject) -> None:
    events = events_of(uid, messages(data.draw(EVENTS[uid][0])))
    early, final = (run([stage_of(uid, emit_when)], events) for emit_when in ("early", "final"))
    assert last_revisions(early) == last_revisions(final)
    assert "retracted" not in {insight.status for insight in insights(final)}, "a final insight is never retracted"


@each_machine
@few
@given(data=st.data())
def test_revisions_of_an_insight_count_up_from_zero_and_differ(uid: str, data: st.DataObject) -> None:
    sent = messages(data.draw(EVENTS[uid][0]))
    events = events_of(uid, displaced(sent, Random(data.draw(st.integers(0, 99))), DISPLACED_MS))
    newest: dict[str, Any] = {}
    for insight in insights(run([stage_of(uid)], events)):
        before = newest.get(insight.insight_id)
        assert insight.revision == (before.revision + 1 if before else 0)
        assert insight != (before and msgspec.structs.replace(before, revision=insight.revision)), "nothing changed"
        assert insight.evidence.traces or insight.evidence.kafka
        newest[insight.insight_id] = insight


@each_machine
@few
@given(data=st.data())
def test_a_timer_that_the_key_did_not_ask_for_changes_nothing(uid: str, data: st.DataObject) -> None:
    events = events_of(uid, messages(data.draw(EVENTS[uid][0])))
    stray = data.draw(st.sets(st.integers(0, len(events)), max_size=8))
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
    assert summary(out + graph.finish()) == summary(plain)


@each_machine
@few
@given(data=st.data())
def test_an_idle_key_is_forgotten_and_only_closes_the_episodes_it_had_open(uid: str, data: st.DataObject) -> None:
    sent = messages(data.draw(EVENTS[uid][0]))
    events = events_of(uid, sent)
    graph = LocalGraph([checked(stage_of(uid))])
    out = graph.feed(event for _, event in events)
    newest_ms = max((timestamp_ms for timestamp_ms, _ in events), default=START_MS)
    out += graph.advance(newest_ms + 10 * 24 * HOUR_MS)
    assert not graph.state_bytes(), "a key still has a state after ten days without an event"
    assert graph.finish() == []
    if events and not uid.startswith("pre-merge"):
        assert graph.counts["states_forgotten_total"] >= 1
    plain = run([stage_of(uid)], events)
    assert summary(out)[1:] == summary(plain)[1:]
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


@pytest.mark.parametrize("uid", ["latency-spike", "telemetry-gap", "error-patterns", "request-shapes"])
def test_the_cache_of_evaluated_windows_changes_no_result(uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events = events_of(uid, messages(GAP_STORY if uid == "telemetry-gap" else busy()))
    plain = run([stage_of(uid)], events)
    for names_max in (0, 30):
        monkeypatch.setattr(emission, "REMEMBERED_NAMES_MAX", names_max)
        assert run([stage_of(uid)], events) == plain


def test_the_stories_do_make_insights_of_every_kind() -> None:
    """Without it, the laws above would hold for a machine that never emits anything."""
    kinds: dict[str, set[str]] = {}
    for uid in UIDS:
        story = busy() if uid != "telemetry-gap" else GAP_STORY
        kinds[uid] = {insight.kind for insight in insights(run([stage_of(uid)], events_of(uid, messages(story))))}
    assert kinds == {
        "pre-merge": set(),
        "pre-merge-logs": set(),
        "pre-merge-metrics": set(),
        "call-pairs": set(),
        "latency-spike": {"latency_spike", "error_ratio"},
        "error-patterns-traces": {"error_pattern_new", "error_pattern_returned"},
        "error-patterns": {"error_pattern_new", "error_pattern_returned"},
        "pattern-news": {"error_pattern_new"},
        "pattern-news-traces": {"error_pattern_new"},
        "request-shapes": {"pattern_missing", "trace_shape_change"},
        "log-silence": {"pattern_missing"},
        "telemetry-gap": {"telemetry_gap"},
    }
