"""Shipped rules: which lines their steps see, and what the package says about them."""

from functools import cache

import pytest

from jobs.rules import load_rules
from jobs.shipped import SHIPPED, ShippedRule, shipped_rules
from operators.ingest.fold import FOLDS, FoldConfig
from state_schemas.contracts.rules import Condition, Part
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from tests.support.traffic import READER, START_MS, request_of_logs
from tests.unit.rules.shipped_lines import LINES
from tests.unit.rules.usual_lines import USUAL
from tests.unit.rules.usual_warnings import USUAL_WARNINGS
from udfs.logs.severity import WARN, severity_of
from udfs.logs.template import template_of
from udfs.rules.compiled import RuleIndex
from udfs.rules.value_tests import value_test

AT = KafkaPosition("logs_raw", 0, 0, START_MS)
INFO, ERROR = 9, 17
Attributes = tuple[tuple[str, str], ...]


@cache
def index() -> RuleIndex:
    return load_rules(SHIPPED)


def record(body: str, severity: int = WARN, attributes: Attributes = ()) -> LogRecord:
    """Return a record of a line. severity: where the line has no level."""
    number = severity_of(0, "", body) or severity
    return LogRecord(Resource("prod", "cart", "host-1"), START_MS * 10**6, number, "", body, "", attributes, "")


def steps_that_see(body: str, severity: int = WARN, attributes: Attributes = ()) -> set[tuple[str, str]]:
    sent = request_of_logs([record(body, severity, attributes)])
    message = FOLDS["logs"](FoldConfig(rules=index())).fold(sent, AT).message
    assert message is not None
    hits = (hit for found in (*message.record_signals, *message.signals) for hit in found.hits)
    return {(rule.id, rule.steps[hit.step].name) for hit in hits for rule in (index().rules[hit.rule].rule,)}


def parts_of(rule_id: str, name: str) -> list[Part]:
    """Return the parts of a step that are log records."""
    (rule,) = (one.rule for one in shipped_rules() if one.rule.id == rule_id)
    (step,) = (step for step in rule.steps if step.name == name)
    return [part for part in step.parts if part.source == "log"]


def listed(condition: Condition) -> list[str]:
    values = condition.get("template|contains", [])
    return [str(value) for value in (values if isinstance(values, list) else [values])]


@pytest.mark.parametrize("step", LINES, ids="/".join)
def test_a_step_sees_the_lines_that_software_writes(step: tuple[str, str]) -> None:
    assert [line for line in LINES[step] if step not in steps_that_see(line)] == []


@pytest.mark.parametrize("step", LINES, ids="/".join)
def test_each_spelling_of_a_step_is_in_one_of_these_lines(step: tuple[str, str]) -> None:
    templates = [template_of(READER.read([record(line)])[0].pattern.texts) for line in LINES[step]]
    spellings = [text for part in parts_of(*step) for condition in part.conditions for text in listed(condition)]
    assert [text for text in spellings if not any(map(value_test(["contains"], text), templates))] == []


def test_lines_of_all_steps_are_here() -> None:
    with_lines = {
        (one.rule.id, step.name)
        for one in shipped_rules()
        for step in one.rule.steps
        if any(part.source == "log" for part in step.parts)
    }
    assert with_lines == LINES.keys()


@pytest.mark.parametrize("line", USUAL)
def test_lines_of_a_system_that_is_well_are_seen_by_no_step(line: str) -> None:
    assert steps_that_see(line, INFO) == set()


@pytest.mark.parametrize("line", [*USUAL, *USUAL_WARNINGS])
def test_nor_are_they_as_warnings_and_errors(line: str) -> None:
    assert steps_that_see(line, WARN) | steps_that_see(line, ERROR) == set()


def test_they_are_many_and_each_is_another_one() -> None:
    assert len({*USUAL, *USUAL_WARNINGS}) == len(USUAL) + len(USUAL_WARNINGS) >= 350


@pytest.mark.parametrize(
    ("error_type", "is_seen"),
    [
        ("java.sql.SQLTransientConnectionException", True),
        ("org.apache.hc.core5.http.ConnectionRequestTimeoutException", True),
        ("com.mongodb.MongoWaitQueueFullException", True),
        ("java.net.SocketTimeoutException", False),
        ("asyncio.exceptions.TimeoutError", False),
    ],
)
def test_an_exhausted_pool_is_seen_as_the_exception_of_a_span(error_type: str, is_seen: bool) -> None:
    hits = index().hits("span", {"status": "error", "attributes.error.type": error_type}, START_MS)
    rules = {index().rules[hit.rule].rule.id for _, hit in hits}
    assert rules == ({"pool-exhausted-then-time-outs"} if is_seen else set())


@pytest.mark.parametrize(("times", "is_seen"), [("1", False), ("5", False), ("6", True), ("40", True)])
def test_an_event_of_a_restart_is_seen_when_it_has_come_several_times(times: str, is_seen: bool) -> None:
    body = "Back-off restarting failed container app in pod ads-5d9f_shop(1f0c)"
    found = steps_that_see(body, INFO, (("k8s.event.count", times),))
    assert (("restart-loop", "restarts") in found) is is_seen


@pytest.mark.parametrize("line", LINES["name-or-certificate-failure", "callers"])
def test_a_failed_look_up_that_its_program_does_not_mind_is_not_seen(line: str) -> None:
    assert ("name-or-certificate-failure", "callers") not in steps_that_see(f"INFO retrying: {line}")


@pytest.mark.parametrize(
    ("line", "is_seen"),
    [
        ("consumer lag: 9999", False),
        ("consumer lag: 10000", True),
        ("lagging behind by 99 s", False),
        ("lagging behind by 100 s", True),
        ("consumer lag: 0, offset 884213", False),
        ("consumer lag of orders-20260131 is 7", False),
    ],
)
def test_a_lag_that_is_small_is_not_seen(line: str, is_seen: bool) -> None:
    assert (("queue-lag-then-slow", "queue-lag") in steps_that_see(line)) is is_seen


@pytest.mark.parametrize("shipped", shipped_rules(), ids=lambda shipped: shipped.rule.id)
def test_a_shipped_rule_says_what_to_do_and_why_it_needs_a_setting_or_none(shipped: ShippedRule) -> None:
    text = " ".join(shipped.rule.description.split())
    assert len(text) > 300
    assert ("Needs no setting: " in text, "On request: " in text) == (shipped.on_by_default, not shipped.on_by_default)
    assert shipped.rule.effective_from is None


def test_there_are_ten_of_which_one_is_on_request() -> None:
    assert len(shipped_rules()) == 10
    assert [one.rule.id for one in shipped_rules() if one.state == "on request"] == ["job-not-finished"]
