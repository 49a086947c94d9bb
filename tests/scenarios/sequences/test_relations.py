"""Sequence rules with relations of the service graph: calls between the services of steps, and hosts in common."""

from typing import Final

import msgspec
import pytest

from operators.correlate import signals as signals
from operators.runtime.local import LocalGraph
from state_schemas.aggregates.rule_signals import RuleEdge
from state_schemas.contracts.insight import Contribution, Evidence
from state_schemas.contracts.tables import EdgeRow
from tests.support.rules import edge_row
from tests.support.sequences import Rules
from tests.support.traffic import START_MS
from udfs.rules.service_graph import INTERVAL_MS
from udfs.rules.subjects import bucket_of

CALLER_FAILS = """
id: slow-then-caller-fails
version: 1
title: slow, and then a caller fails
by: env
within: 2h
suppress_ms: 0
steps:
  - {name: slow, insight: {kind: latency_spike}}
  - {name: failing, insight: {kind: error_ratio}, calls: $slow}
"""
NO_CALLER_FAILS = CALLER_FAILS.replace("calls: $slow", "calls: $1, not_within: 1m")
HOUR_S = 3_600
INTERVAL_START_MS: Final = START_MS - START_MS % INTERVAL_MS


def test_a_slow_service_and_then_errors_of_a_service_that_calls_it() -> None:
    rules = Rules(CALLER_FAILS)
    rules.calls(0, "checkout", "cart")
    rules.signal(10, "latency_spike", "cart")
    rules.signal(70, "error_ratio", "checkout")
    assert rules.until(100) == [("sequence_match", "open")]
    (match,) = rules.emitted
    assert match.title == ("prod: slow, and then a caller fails: slow at 22:15:10, failing +60 s (checkout calls cart)")
    first, second = match.evidence.timeline
    assert (first.service, first.relations) == ("cart", ())
    assert (second.service, second.relations) == ("checkout", ("checkout calls cart",))


@pytest.mark.parametrize(
    ("caller", "callee"),
    [("cart", "checkout"), ("checkout", "shop"), ("other", "cart")],
    ids=["the callee fails", "it calls another service", "another service calls the slow one"],
)
def test_errors_of_a_service_that_does_not_call_the_slow_one_are_no_match(caller: str, callee: str) -> None:
    rules = Rules(CALLER_FAILS)
    rules.calls(0, caller, callee)
    rules.signal(10, "latency_spike", "cart")
    rules.signal(70, "error_ratio", "checkout")
    rules.signal(80, "error_ratio", "cart")
    assert rules.until(900) == []


def test_called_by_is_the_other_direction() -> None:
    rules = Rules(CALLER_FAILS.replace("calls:", "called_by:"))
    rules.calls(0, "cart", "checkout")
    rules.signal(10, "latency_spike", "cart")
    rules.signal(70, "error_ratio", "checkout")
    assert rules.until(100) == [("sequence_match", "open")]
    assert rules.emitted[0].evidence.timeline[1].relations == ("cart calls checkout",)


def test_the_match_begins_with_the_slow_service_that_is_called_although_another_was_slow_later() -> None:
    rules = Rules(CALLER_FAILS)
    rules.calls(0, "checkout", "cart")
    rules.signal(10, "latency_spike", "cart")
    for number in range(60):
        rules.signal(20 + number, "latency_spike", f"other-{number}")
    rules.until(100)
    rules.signal(110, "error_ratio", "checkout")
    assert rules.until(120) == [("sequence_match", "open")]
    assert rules.emitted[0].window.start_ms - START_MS == 10_000


@pytest.mark.parametrize(
    ("seen_s", "matches"),
    [(70, 1), (79, 1), (80, 0), (-86_400, 1), (-25 * HOUR_S, 0)],
    ids=["in its window", "at the end of it", "after it", "a day before", "longer before"],
)
def test_a_call_counts_from_its_window_on_for_a_day(seen_s: int, matches: int) -> None:
    rules = Rules(CALLER_FAILS)
    rules.calls(seen_s, "checkout", "cart")
    rules.signal(10, "latency_spike", "cart")
    rules.signal(70, "error_ratio", "checkout")
    rules.until(900)
    assert len(rules.emitted) == matches


def test_a_call_that_is_known_late_takes_its_place() -> None:
    rules = Rules(CALLER_FAILS)
    rules.signal(10, "latency_spike", "cart")
    rules.signal(70, "error_ratio", "checkout")
    assert rules.until(100) == []
    rules.calls(60, "checkout", "cart")
    assert rules.until(101) == [("sequence_match", "open")]


def test_what_no_caller_did_is_missing_and_what_another_service_did_does_not_matter() -> None:
    of_caller, of_other = Rules(NO_CALLER_FAILS), Rules(NO_CALLER_FAILS)
    for rules, failing in ((of_caller, "checkout"), (of_other, "shop")):
        rules.active(200)
        rules.calls(0, "checkout", "cart")
        rules.signal(10, "latency_spike", "cart")
        rules.signal(40, "error_ratio", failing)
        rules.until(150)
    assert of_caller.emitted == []
    (missing,) = of_other.emitted
    assert missing.kind == "sequence_missing"
    assert missing.evidence.expected == (
        "step failing of a service that calls cart within 60 s after 22:15:10, none came until 22:16:10"
    )


def test_of_several_matches_without_a_last_step_the_tightest_counts() -> None:
    rules = Rules(
        CALLER_FAILS.replace("calls: $slow}", "}") + "  - {name: end, log: {body: x}, calls: $slow, not_within: 1m}\n"
    )
    rules.active(300)
    for at_s, slow in ((10, "cart"), (20, "payment")):
        rules.signal(at_s, "latency_spike", slow)
    rules.signal(70, "error_ratio", "checkout")
    rules.until(290)
    assert [(match.kind, match.window.start_ms - START_MS) for match in rules.emitted if match.status == "open"] == [
        ("sequence_missing", 20_000)
    ]


def test_errors_of_several_callers_are_counted_by_service() -> None:
    counting = CALLER_FAILS.replace("calls: $slow", "calls: $slow, count: '>= 3', distinct: service")
    rules = Rules(counting)
    for caller in ("a", "b", "c"):
        rules.calls(0, caller, "dns")
    rules.calls(0, "shop", "cart")
    rules.signal(10, "latency_spike", "dns")
    for at_s, failing in ((40, "a"), (50, "b"), (60, "shop"), (70, "z"), (80, "a")):
        rules.signal(at_s, "error_ratio", failing)
    assert rules.until(100) == []
    rules.signal(110, "error_ratio", "c")
    assert rules.until(130) == [("sequence_match", "open")]
    assert rules.emitted[0].evidence.timeline[1].signals == 3


@pytest.mark.parametrize(("host", "matches"), [("web-1", 1), ("web-3", 0), ("unknown_host", 0)])
def test_two_services_on_one_host(host: str, matches: int) -> None:
    rules = Rules(CALLER_FAILS.replace("calls:", "same_host:"))
    found = Evidence(hosts=(Contribution(host, 1.0, 1.0, 1), Contribution("other", 0.0, 1.0, 1)))
    unknown = Contribution("unknown_host", 0.1, 0.5, 1)
    mine = Evidence(hosts=(Contribution("web-1", 0.9, 0.5, 9), unknown, Contribution("other", 0.0, 0.5, 1)))
    rules.signal(10, "latency_spike", "cart", evidence=mine)
    rules.signal(70, "error_ratio", "checkout", evidence=found)
    rules.until(100)
    assert [match.evidence.timeline[1].relations for match in rules.emitted] == [("both on web-1",)] * matches


def test_services_that_are_slow_at_one_time_make_a_match_each() -> None:
    rules = Rules(CALLER_FAILS)
    for caller, callee, failing_s in (("checkout", "cart", 70), ("mobile", "cart", 90), ("order", "payment", 110)):
        rules.calls(0, caller, callee)
        rules.signal(10, "latency_spike", callee)
        rules.signal(failing_s, "error_ratio", caller)
    rules.until(300)
    matches = {match.insight_id: match for match in rules.emitted}.values()
    assert sorted(match.evidence.timeline[0].service for match in matches) == ["cart", "payment"]
    assert {match.window.start_ms - START_MS for match in matches} == {10_000}


def passed_on(rows: list[EdgeRow], text: str = CALLER_FAILS) -> tuple[list[RuleEdge], dict[str, int]]:
    """Return the edges that rules get of these rows, and the counts."""
    graph = LocalGraph([stage for stage in Rules(text).stages if stage.uid == "rule-signals"])
    found = graph.feed(rows)
    return [output for output in found if isinstance(output, RuleEdge)], graph.counts


def test_an_edge_is_passed_on_with_the_first_window_of_each_ten_minutes_whatever_their_order() -> None:
    starts_s = (250, 240, 260, 800, 810, 270)
    found, _ = passed_on([edge_row(INTERVAL_START_MS + at_s * 1000, "checkout", "cart") for at_s in starts_s])
    assert [(edge.start_ms - INTERVAL_START_MS) // 1000 for edge in found][:3] == [250, 240, 800]
    assert {edge.bucket for edge in found} == {bucket_of("env|")}
    assert {edge.edge for edge in found} == {("checkout", "cart")}


def test_what_is_no_edge_of_two_services() -> None:
    at_ms = INTERVAL_START_MS
    late = msgspec.structs.replace(edge_row(at_ms, "checkout", "cart"), late=True)
    none = [late, edge_row(at_ms, "a", "b", 60), edge_row(at_ms, "a", "a"), edge_row(at_ms, "other", "a")]
    found, _ = passed_on([*none, edge_row(at_ms, "a", "other")])
    assert found == []
    namespaced = msgspec.structs.replace(edge_row(at_ms, "a", "b"), namespace="n", callee_namespace="m")
    assert [edge.edge for edge in passed_on([namespaced])[0]] == [("n/a", "m/b")]


def test_edges_beyond_the_limit_of_an_environment_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "EDGES_MAX", 3)
    found, counts = passed_on([edge_row(INTERVAL_START_MS, "checkout", f"cart-{number % 5}") for number in range(10)])
    assert [edge.edge.callee for edge in found] == ["cart-0", "cart-1", "cart-2"]
    assert counts["rule_edges_overflowed_total"] == 4


def test_rows_of_calls_come_to_the_rules_only_where_a_rule_asks_for_them() -> None:
    for text, comes in ((CALLER_FAILS, True), (CALLER_FAILS.replace("calls:", "same_host:"), False)):
        (stage,) = (stage for stage in Rules(text).stages if stage.uid == "rule-signals")
        assert (EdgeRow in stage.machine.takes) == comes
