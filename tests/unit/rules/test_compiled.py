"""Compiled rules: which steps a signal fulfils, at which event time, and their way to the workers."""

import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from state_schemas.contracts.rules import Rule
from udfs.rules.compiled import RuleIndex, compile_rules, rule_name
from udfs.rules.relations import Relation

MINUTE_MS = 60_000


def rule(version: int = 1, from_ms: int = 0, kind: str = "latency_spike", second: str = "error_ratio") -> Rule:
    return Rule.model_validate(
        {
            "id": "slow-then-failing",
            "version": version,
            "title": "t",
            "by": "service",
            "within": "10m",
            "effective_from": datetime.fromtimestamp(from_ms / 1000, UTC) if from_ms else None,
            "steps": [
                {"name": "a", "insight": {"kind": kind, "service|startswith": "c"}},
                {"name": "b", "insight": [{"kind": second}, {"severity": "critical"}]},
            ],
        }
    )


def steps(index: RuleIndex, at_ms: int = 5, **fields: str) -> list[tuple[str, int]]:
    return sorted(
        (hit.rule.partition("#")[0], hit.step) for _, hit in index.hits("insight", {"service": "cart", **fields}, at_ms)
    )


def test_a_signal_fulfils_the_steps_whose_conditions_hold() -> None:
    index, faults = compile_rules([rule()])
    assert not faults
    assert steps(index, kind="latency_spike") == [("slow-then-failing@1", 0)]
    assert steps(index, kind="Latency_Spike", severity="critical") == [
        ("slow-then-failing@1", 0),
        ("slow-then-failing@1", 1),
    ]
    assert steps(index, kind="latency_spike", service="shop") == []
    assert {by for by, _ in index.hits("insight", {"service": "cart", "kind": "latency_spike"}, 5)} == {"service"}


def test_a_version_holds_until_the_next_one_and_its_partial_matches_go_on() -> None:
    until_ms = 100 * MINUTE_MS
    index, _ = compile_rules([rule(2, until_ms, kind="error_pattern_new"), rule(1)])
    old, new = "slow-then-failing@1", "slow-then-failing@2"
    assert steps(index, until_ms - 1, kind="latency_spike") == [(old, 0)]
    assert steps(index, until_ms, kind="latency_spike") == []
    assert steps(index, until_ms, kind="error_pattern_new") == [(new, 0)]
    assert steps(index, until_ms + 10 * MINUTE_MS - 1, kind="error_ratio") == [(old, 1), (new, 1)]
    assert steps(index, until_ms + 10 * MINUTE_MS, kind="error_ratio") == [(new, 1)]


def test_a_version_must_be_effective_after_the_one_before() -> None:
    for second in (rule(2), rule(2, 50 * MINUTE_MS)):
        _, faults = compile_rules([rule(1, 50 * MINUTE_MS), second])
        assert [fault.text for fault in faults] == ["effective_from is not behind that of version 1: it never holds"]


def test_a_changed_rule_has_another_key_and_one_with_another_text_has_not() -> None:
    keys = {
        key for changed in ({"within": "9m"}, {"by": "host"}) for key in compile_rules([changed_rule(changed)])[0].rules
    }
    (plain,), (retitled,) = (compile_rules([changed_rule(changes)])[0].rules for changes in ({}, {"title": "other"}))
    assert plain == retitled
    assert len({plain, *keys}) == 3


def changed_rule(changes: dict[str, Any]) -> Rule:
    return Rule.model_validate_json(json.dumps({**json.loads(rule().model_dump_json()), **changes}))


def test_what_the_signals_of_a_step_do_not_have_is_no_subject() -> None:
    for by, source in (("operation", "log"), ("attribute:user", "insight")):
        condition = {"kind": "telemetry_gap"} if source == "insight" else {"service": "x"}
        document = {"id": "r", "version": 1, "title": "t", "by": by, "within": "1m"}
        _, faults = compile_rules([Rule.model_validate({**document, "steps": [{"name": "a", source: condition}]})])
        assert f"{source} has no {by}, expected steps of" in faults[0].text


def test_a_rule_with_a_fault_is_left_out_and_named() -> None:
    bad = rule().model_copy(update={"id": "bad", "steps": [rule().steps[0].model_copy(update={"insight": [{"x": 1}]})]})
    index, faults = compile_rules([rule(), bad])
    assert [rule_name(found.rule) for found in index.rules.values()] == ["slow-then-failing@1"]
    (fault,) = faults
    assert (fault.rule.id, fault.step, fault.text.partition(";")[0]) == (
        "bad",
        0,
        "step a: x: insight has no field 'x'",
    )


def test_rules_travel_to_the_workers_as_text() -> None:
    index, _ = compile_rules([rule(2, 100 * MINUTE_MS), rule(1)])
    read = pickle.loads(pickle.dumps(index))
    assert read.published == index.published
    assert steps(read, kind="latency_spike") == steps(index, kind="latency_spike")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"count": ">= 2"}, "counts several signals"),
        ({"optional": True}, "is optional"),
        ({"not_within": "1m"}, "must not come"),
        ({"insight": None, "all_of": [{"insight": {"kind": "incident"}}] * 2}, "has several signals"),
    ],
)
def test_a_relation_refers_to_a_step_that_always_has_one_signal(changes: dict[str, Any], says: str) -> None:
    steps: list[dict[str, Any]] = [{"name": name, "insight": {"kind": "latency_spike"}} for name in "abc"]
    steps[1] |= changes
    steps[2] |= {"calls": "$a", "called_by": "$2"}
    document = {"id": "r", "version": 1, "title": "t", "by": "env", "within": "10m", "steps": steps}
    _, faults = compile_rules([Rule.model_validate(document)])
    assert [(fault.step, fault.text) for fault in faults] == [
        (2, f"step c: called_by: $2 {says}, expected one of $a"),
    ]


def test_a_relation_names_its_step_by_number_or_by_name() -> None:
    plans = [changed_rule({"by": "env", "steps": related_steps(reference)}) for reference in ("$1", "$a")]
    (first,), (second,) = (compile_rules([found])[0].rules.values() for found in plans)
    assert first.plan == second.plan
    assert first.plan.steps[1].relations == (Relation("calls", 0),)


def related_steps(reference: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = json.loads(rule().model_dump_json())["steps"]
    return [steps[0], {**steps[1], "calls": reference}]


def test_a_field_that_rules_gain_changes_no_key() -> None:
    """States name rules by their keys: partial matches of a rule that did not change go on."""
    (key,) = compile_rules([rule()])[0].rules
    assert key == "slow-then-failing@1#47b87cfa3c04"
