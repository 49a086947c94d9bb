"""Sequence rules over insights: what matches, when it is emitted, and what late signals change."""

import pytest

from state_schemas.contracts.insight import Contribution, Evidence, Window
from tests.support.sequences import DELAY_MS, SLOW_AND_SILENT, SLOW_THEN_FAILING, TRACE, Rules, insight
from tests.support.traffic import START_MS

TWO_SLOW = """
id: two-slow
version: 1
title: two services are slow
by: host
within: 5m
steps:
  - name: slow
    insight: {kind: latency_spike, carried_by|fieldref: host}
    count: ">= 2"
    distinct: service
    within: 5m
"""


def test_a_match_is_an_insight_that_has_the_story() -> None:
    rules = Rules(SLOW_THEN_FAILING)
    rules.signal(10, "latency_spike")
    rules.signal(70, "error_ratio")
    assert rules.until(100) == [("sequence_match", "open")]
    (match,) = rules.emitted
    assert match.title == "cart: slow, then failing: slow at 22:15:10, failing +60 s"
    assert (match.service, match.subject, match.severity) == ("cart", "slow-then-failing@1", "warning")
    assert (match.window.start_ms - START_MS, match.window.end_ms - START_MS) == (10_000, 70_001)
    first, second = match.evidence.timeline
    assert (first.step, first.delay_ms, first.title, first.trace_id) == ("slow", 0, "cart: latency_spike", TRACE)
    assert (second.step, second.delay_ms, second.insight_id) == (
        "failing",
        60_000,
        insight(70, "error_ratio").insight_id,
    )
    assert [trace.trace_id for trace in match.evidence.traces] == [TRACE]


def test_a_match_is_emitted_with_the_next_advance_of_event_time_however_old_its_signals_are() -> None:
    rules = Rules(SLOW_THEN_FAILING)
    rules.until(100)
    rules.signal(10, "latency_spike")
    rules.signal(70, "error_ratio")
    assert rules.until(101) == [("sequence_match", "open")]


@pytest.mark.parametrize(
    ("slow_s", "failing_s", "service"),
    [(70, 10, "cart"), (10, 140, "cart"), (10, 70, "shop")],
    ids=["in the other order", "too late for its step", "of another service"],
)
def test_what_is_no_match(slow_s: int, failing_s: int, service: str) -> None:
    rules = Rules(SLOW_THEN_FAILING)
    rules.signal(slow_s, "latency_spike")
    rules.signal(failing_s, "error_ratio", service)
    assert rules.until(900) == []
    assert rules.finish() == []


def test_the_newest_revision_of_an_insight_is_its_signal() -> None:
    rules = Rules(SLOW_THEN_FAILING.replace("{kind: error_ratio}", "{kind: error_ratio, severity: critical}"))
    rules.signal(10, "latency_spike")
    rules.signal(70, "error_ratio")
    assert rules.until(100) == []
    rules.signal(70, "error_ratio", status="updated", severity="critical", revision=1)
    assert rules.until(101) == [("sequence_match", "open")]
    rules.signal(70, "error_ratio", status="closed", severity="warning", revision=2)
    assert rules.until(102) == [("sequence_match", "retracted")]


def test_a_signal_leaves_the_hosts_that_are_not_in_its_newest_revision() -> None:
    rules = Rules(SLOW_THEN_FAILING.replace("by: service", "by: host"))
    rules.signal(10, "latency_spike")
    rules.signal(70, "error_ratio")
    assert rules.until(100) == [("sequence_match", "open")] * 2
    moved = Evidence(hosts=(Contribution("web-2", 1.0, 0.5, 9),))
    rules.signal(70, "error_ratio", status="updated", evidence=moved)
    assert sorted(rules.until(101)) == [("sequence_match", "retracted"), ("sequence_match", "updated")]
    assert [match.evidence.hosts[0].name for match in rules.emitted if match.status == "retracted"] == ["web-1"]
    assert {match.title.split(":")[1] for match in rules.emitted} == {
        " slow, then failing on host web-1",
        " slow, then failing on host web-2",
    }


def test_by_host_an_insight_is_no_signal_of_a_host_with_hardly_any_part_of_the_anomaly() -> None:
    rules = Rules(SLOW_THEN_FAILING.replace("by: service", "by: host"))
    hosts = (Contribution("web-1", 0.95, 0.5, 9), Contribution("web-2", 0.05, 0.5, 9))
    rules.signal(10, "latency_spike", evidence=Evidence(hosts=hosts))
    rules.signal(70, "error_ratio", evidence=Evidence(hosts=hosts))
    assert rules.until(100) == [("sequence_match", "open")]
    assert rules.emitted[0].evidence.hosts[0].name == "web-1"


@pytest.mark.parametrize(("share", "matches"), [(0.9, 1), (0.7, 0)], ids=["carries it", "has half the traffic"])
def test_carried_by_is_the_host_with_far_more_of_the_anomaly_than_of_the_traffic(share: float, matches: int) -> None:
    rules = Rules(SLOW_THEN_FAILING.replace("{kind: latency_spike}", "{kind: latency_spike, carried_by: web-1}"))
    hosts = (Contribution("web-1", share, 0.5, 9), Contribution("web-2", 1 - share, 0.5, 9))
    rules.signal(10, "latency_spike", evidence=Evidence(hosts=hosts))
    rules.signal(70, "error_ratio")
    assert len(rules.until(100)) == matches


@pytest.mark.parametrize(
    ("condition", "slow_on", "hosts"),
    [
        ("carried_by|fieldref: host", "ac", []),
        ("carried_by|fieldref: host", "aa", ["a"]),
        ("carried_by: a", "aa", ["a"]),
    ],
)
def test_by_host_carried_by_is_that_host_alone(condition: str, slow_on: str, hosts: list[str]) -> None:
    """Each service has 62 % of its anomaly on one host, and on the two others half of their part and more."""
    rules = Rules(TWO_SLOW.replace("carried_by|fieldref: host", condition))
    for number, (service, slow) in enumerate(zip(("cart", "mail"), slow_on, strict=True)):
        parts = (Contribution(host, *((0.62, 0.4) if host == slow else (0.19, 0.3)), 9) for host in "abc")
        rules.signal(10 + 10 * number, "latency_spike", service, evidence=Evidence(hosts=tuple(parts)))
    rules.until(100)
    assert [match.evidence.hosts[0].name for match in rules.emitted] == hosts


def test_an_insight_that_opens_too_late_is_no_signal_and_is_counted() -> None:
    rules = Rules(SLOW_THEN_FAILING)
    rules.signal(70, "error_ratio")
    late = Window(START_MS + 10_000, START_MS + 10_001 + DELAY_MS)
    rules.signal(10, "latency_spike", window=late)
    assert rules.until(100) == []
    assert rules.graph.counts["rule_signals_late_total"] == 1


def test_a_signal_that_comes_twice_counts_once() -> None:
    text = SLOW_THEN_FAILING.replace(
        "{name: failing, insight: {kind: error_ratio}", "{name: failing, count: '>= 2', insight: {kind: error_ratio}"
    )
    rules = Rules(text)
    for _ in range(3):
        rules.signal(10, "latency_spike")
        rules.signal(70, "error_ratio")
    assert rules.until(900) == []


def test_further_matches_count_in_the_first_and_it_closes_suppress_ms_after_the_last() -> None:
    rules = Rules(SLOW_THEN_FAILING.replace("within: 10m", "within: 10m\nsuppress_ms: 60000", 1))
    rules.active(300)
    for at_s in (10, 60, 140):
        rules.signal(at_s, "latency_spike")
        rules.signal(at_s + 10, "error_ratio")
    rules.signal(160, "error_ratio")  # after a first step that has made its match
    assert rules.until(90) == [("sequence_match", "open")]
    assert rules.emitted[-1].measures["matches"] == 2.0
    assert rules.emitted[-1].window.end_ms - START_MS == 70_001
    assert sorted(rules.until(190)) == [("sequence_match", "open")]
    assert rules.emitted[-1].window.start_ms - START_MS == 140_000
    rules.until(900)
    closed = [match for match in rules.emitted if match.status == "closed"]
    assert [match.measures["matches"] for match in closed] == [2.0, 1.0]
    assert {match.reason for match in closed} == {"no further match for suppress_ms"}


def test_a_trouble_that_goes_on_for_a_day_is_three_insights_of_few_revisions() -> None:
    rules = Rules(SLOW_THEN_FAILING)
    for at_s in range(0, 24 * 3_600, 300):
        rules.signal(at_s, "latency_spike")
        rules.signal(at_s + 10, "error_ratio")
        rules.until(at_s + 60)
    rules.finish()
    assert [match.status for match in rules.emitted].count("open") == 3
    assert len(rules.emitted) <= 3 * (2 + 7), "an update at its 2nd, 4th, 8th ... match, of 97"
    closed = [(match.reason, match.measures["matches"]) for match in rules.emitted if match.status == "closed"]
    assert closed == [("it goes on: a new insight begins", 97.0)] * 2


def test_what_did_not_come_is_concluded_once_the_environment_has_telemetry_behind_its_time() -> None:
    rules = Rules(SLOW_AND_SILENT)
    rules.active(60)
    rules.signal(10, "latency_spike")
    assert rules.until(150) == [], "no telemetry behind 60 s: nothing is known of the time after it"
    rules.active(90)
    assert rules.until(151) == [("sequence_missing", "open")]
    (missing,) = rules.emitted
    assert missing.evidence.expected == "step errors within 60 s after 22:15:10, none came until 22:16:10"
    assert missing.title == "cart: slow without errors: slow at 22:15:10, no errors"
    assert [step.step for step in missing.evidence.timeline] == ["slow"]


def test_what_came_in_time_is_not_missing_and_a_late_one_takes_the_insight_back() -> None:
    in_time, late = Rules(SLOW_AND_SILENT), Rules(SLOW_AND_SILENT)
    for rules in (in_time, late):
        rules.active(200)
        rules.signal(10, "latency_spike")
    in_time.signal(70, "error_ratio")
    assert in_time.until(150) == []
    assert late.until(150) == [("sequence_missing", "open")]
    late.signal(70, "error_ratio")
    assert late.until(151) == [("sequence_missing", "retracted")]
    assert late.finish() == []


def test_a_match_whose_signal_is_withdrawn_is_withdrawn() -> None:
    rules = Rules(SLOW_THEN_FAILING)
    rules.signal(10, "latency_spike")
    rules.signal(70, "error_ratio")
    assert rules.until(100) == [("sequence_match", "open")]
    rules.signal(70, "error_ratio", status="retracted", severity="info")
    assert rules.until(101) == [("sequence_match", "retracted")]


def test_a_late_signal_takes_its_place_in_the_order() -> None:
    rules = Rules(SLOW_THEN_FAILING)
    rules.signal(70, "error_ratio")
    assert rules.until(100) == []
    rules.signal(10, "latency_spike")
    assert rules.until(101) == [("sequence_match", "open")]


def test_a_partial_match_goes_on_under_the_version_with_which_it_began() -> None:
    second = SLOW_THEN_FAILING.replace("version: 1", "version: 2\neffective_from: 2023-11-14T22:15:30Z").replace(
        "kind: error_ratio", "kind: error_pattern_new"
    )
    rules = Rules(f"{SLOW_THEN_FAILING}---\n{second}")
    rules.signal(10, "latency_spike")
    rules.signal(40, "latency_spike")
    rules.signal(70, "error_ratio")
    rules.signal(80, "error_pattern_new")
    rules.until(100)
    assert [(match.subject, match.window.start_ms - START_MS) for match in rules.emitted] == [
        ("slow-then-failing@1", 10_000),
        ("slow-then-failing@2", 40_000),
    ]


@pytest.mark.parametrize(
    ("by", "matches"),
    [("host", 2), ("operation", 0), ("trace", 1), ("env", 1)],
)
def test_a_rule_can_follow_hosts_traces_and_the_environment(by: str, matches: int) -> None:
    rules = Rules(SLOW_THEN_FAILING.replace("by: service", f"by: {by}"))
    rules.signal(10, "latency_spike", "cart")
    rules.signal(70, "error_ratio", "shop")
    rules.until(100)
    assert len({match.insight_id for match in rules.emitted}) == len(rules.emitted) == matches


def test_conclusions_are_never_signals() -> None:
    rules = Rules(SLOW_THEN_FAILING.replace("kind: latency_spike", "kind: [sequence_match, incident, rule_rejected]"))
    for kind in ("sequence_match", "incident", "rule_rejected"):
        rules.signal(10, kind)
    rules.signal(70, "error_ratio")
    assert rules.until(900) == []


def test_an_environment_that_is_forgotten_closes_its_matches() -> None:
    rules = Rules(SLOW_THEN_FAILING.replace("within: 10m", "within: 10m\nsuppress_ms: 86400000", 1))
    rules.signal(10, "latency_spike")
    rules.signal(70, "error_ratio")
    assert rules.until(100) == [("sequence_match", "open")]
    assert rules.until(5 * 86_400) == [("sequence_match", "closed")]
    assert rules.emitted[-1].reason == "no telemetry of the environment for so long"
    assert not rules.graph.state_bytes()


HEARTBEAT = """
id: heartbeat
version: 1
title: no further one
by: service
within: 10m
suppress_ms: 0
steps:
  - {name: one, insight: {kind: telemetry_gap}}
  - {name: next, insight: {kind: telemetry_gap}, not_within: 1m}
"""


def test_a_signal_is_not_the_one_that_must_follow_it() -> None:
    rules = Rules(HEARTBEAT)
    rules.active(300)
    for at_s in (10, 50, 110, 200):
        rules.signal(at_s, "telemetry_gap")
    rules.until(290)
    opened = [match.window.start_ms - START_MS for match in rules.emitted if match.status == "open"]
    assert sorted(opened) == [110_000, 200_000]


def test_what_is_missing_is_found_however_often_its_first_step_comes() -> None:
    rules = Rules(SLOW_AND_SILENT)
    rules.active(400)
    for at_s in range(200):
        rules.signal(at_s, "latency_spike")
    assert ("sequence_missing", "open") in rules.until(390)
    assert rules.emitted[0].window.start_ms == START_MS


def test_a_first_step_of_several_parts_makes_one_match() -> None:
    text = """
id: both
version: 1
title: both
by: service
within: 1h
suppress_ms: 0
steps:
  - {name: both, all_of: [{insight: {kind: latency_spike}}, {insight: {kind: error_ratio}}]}
"""
    rules = Rules(text)
    rules.active(600)
    rules.signal(10, "latency_spike")
    for at_s in (20, 200, 400):
        rules.signal(at_s, "error_ratio")
        rules.until(at_s + 30)
    rules.finish()
    assert [match.status for match in rules.emitted] == ["open", "closed"]


@pytest.mark.parametrize("first_s", [10, 61], ids=["of another window", "of its own window"])
def test_a_match_begins_with_the_latest_first_step(first_s: int) -> None:
    rules = Rules(SLOW_THEN_FAILING)
    for at_s in (first_s, 65):
        rules.signal(at_s, "latency_spike")
    rules.signal(69, "error_ratio")
    assert rules.until(100) == [("sequence_match", "open")]
    assert rules.emitted[0].window.start_ms - START_MS == 65_000


@pytest.mark.parametrize("second_s", [10, 60])
def test_two_steps_take_two_signals_which_may_have_one_time(second_s: int) -> None:
    rules = Rules(SLOW_THEN_FAILING.replace("error_ratio", "latency_spike"))
    rules.signal(10, "latency_spike")
    assert rules.until(100) == [], "one signal does not fulfil both steps"
    rules.signal(second_s, "latency_spike", insight_id="0f" * 16)
    assert rules.until(101) == [("sequence_match", "open")]


LINE_THEN_SLOW = """
id: line-then-slow
version: 1
title: a line, and then it is slow
by: service
within: 2m
steps:
  - {name: line, log: {body: full collection}}
  - {name: slow, insight: {kind: latency_spike}}
"""


@pytest.mark.parametrize(("line_s", "matches"), [(19.5, 1), (23.25, 1), (30.0, 0)])
def test_a_line_of_the_window_in_which_an_episode_begins_can_be_before_it(line_s: float, matches: int) -> None:
    rules = Rules(LINE_THEN_SLOW)
    rules.line(line_s, "full collection")
    rules.signal(20, "latency_spike")
    rules.active(40)
    rules.until(40)
    assert len(rules.emitted) == matches
    for match in rules.emitted:
        line, slow = match.evidence.timeline
        assert (line.at_ms, slow.at_ms) == (START_MS + line_s * 1000, START_MS + 20_000), "each step has its own time"
        assert slow.delay_ms == max(0, slow.at_ms - line.at_ms)
