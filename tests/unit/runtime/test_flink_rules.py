"""Rules on Flink: what is broadcast, kept for a restore and given to the step. No JVM is started."""

from typing import Any

import msgspec
import pytest
from pyflink.common import Row

from operators.correlate.rule_book import RuleBook
from operators.machine import BEGIN_OF_TIME, Key, Stage
from operators.runtime import flink
from operators.runtime.flink import KeyedMachine, MachineWithRules, ReadRules
from state_schemas.aggregates.published_rules import (
    PUBLISHED_CODEC,
    PublishedRule,
    RuleRecord,
    RuleVersion,
    TopicAtStart,
)
from tests.support.fake_flink import FakeContext, FakeRuntimeContext, FakeTimers
from tests.support.rule_records import NOW_MS


class BroadcastState:
    """Broadcast state as bytes by key."""

    def __init__(self, held: dict[str, bytes] | None = None) -> None:
        self.held = dict(held or {})
        self.put = self.held.__setitem__
        self.items = self.held.items

    def remove(self, key: str) -> None:
        self.held.pop(key, None)


class Context(FakeContext):
    """Context of an element with broadcast state."""

    state: BroadcastState

    def get_broadcast_state(self, descriptor: Any) -> BroadcastState:
        return self.state


class Inner:
    """A step that records what rules it is given, and when."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def open(self, runtime_context: Any) -> None:
        self.said.append("open")

    def add_rules(self, changes: list[PublishedRule]) -> None:
        self.said.append([(change.rule_id, change.offset) for change in changes])

    def process_element(self, value: Any, ctx: Any) -> Any:
        self.said.append(value)
        return iter(())

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        self.said.append(timestamp)
        return iter(())


VERSION = RuleVersion(1, "{}", 0)


def change(rule_id: str, offset: int, *versions: RuleVersion, topic_id: str = "T") -> Row:
    return Row(rule_id, PUBLISHED_CODEC.encode(PublishedRule(rule_id, versions, offset, topic_id)))


AT_START = TopicAtStart((PublishedRule("a", (VERSION,), 0, "T"),), 1, "T")


def started(held: dict[str, bytes] | None = None, at_start: TopicAtStart = AT_START) -> tuple[Any, Inner, Context]:
    inner: Any = Inner()
    step = MachineWithRules(inner, at_start)
    step.open(FakeRuntimeContext())
    context = Context(FakeTimers())
    context.state = BroadcastState(held)
    return step, inner, context


def test_changes_are_given_together_before_the_next_event_or_timer() -> None:
    step, inner, context = started()
    step.process_element("first", context)
    for offset, rule_id in enumerate("ab"):
        assert list(step.process_broadcast_element(change(rule_id, offset, VERSION), context)) == []
    step.on_timer(7, context)
    step.process_element("second", context)
    assert inner.said == ["open", "first", [("a", 0), ("b", 1)], 7, "second"]


def test_after_a_restore_the_changes_of_the_state_come_before_anything_is_judged() -> None:
    step, _, context = started()
    for offset, rule_id in enumerate("ab"):
        step.process_broadcast_element(change(rule_id, offset, VERSION), context)
    step.process_broadcast_element(change("a", 2), context)
    again, restored, anew = started(context.state.held)
    again.process_broadcast_element(change("c", 3, VERSION), anew)
    again.process_element("first", anew)
    assert restored.said[0] == "open"
    assert sorted(restored.said[1]) == [("a", 2), ("b", 1), ("c", 3)], "one that is over is known to be"
    assert restored.said[2] == "first"


def test_a_rule_that_is_over_leaves_the_state_unless_the_step_begins_with_it() -> None:
    step, _, context = started()
    for number in range(5_000):
        step.process_broadcast_element(change(f"r{number}", number, VERSION), context)
        step.process_broadcast_element(change(f"r{number}", number), context)
    step.process_broadcast_element(change("a", 5_000), context)
    assert list(context.state.held) == ["a"]


def test_rules_of_another_topic_are_not_restored() -> None:
    """Their offsets are higher than those of a topic that was created anew: they would hold for ever."""
    step, _, context = started()
    step.process_broadcast_element(change("a", 400, VERSION, topic_id="T"), context)
    step.process_broadcast_element(change("b", 401, VERSION, topic_id=""), context)
    again, restored, anew = started(context.state.held, AT_START._replace(topic_id="anew"))
    again.process_element("first", anew)
    assert restored.said == ["open", [("b", 401)], "first"], "of a savepoint that has no topic nothing is known"


def test_rules_that_went_out_of_the_topic_while_the_job_was_stopped_are_not_restored() -> None:
    """The mark of the removal of b is compacted away after a week; c came after the submission, before a failure."""
    step, _, context = started()
    for offset, rule_id in enumerate("abc", start=1):
        step.process_broadcast_element(change(rule_id, offset, VERSION), context)
    again, restored, anew = started(context.state.held, AT_START._replace(end_offset=3))
    again.process_element("first", anew)
    assert restored.said == ["open", [("a", 1), ("c", 3)], "first"]


BOOK = Stage("rule-book", RuleBook(), Key("all", lambda event: "rules"))


def test_records_of_the_topic_go_to_the_book_in_one_key() -> None:
    reader = ReadRules("insight_rules", AT_START, [BOOK])
    reader.open(FakeRuntimeContext())
    context = FakeContext(FakeTimers(), timestamp_ms=5)
    rows = [
        Row(b"a", None, 0, 7, "ts", "insight_rules"),
        Row(b"a", None, 0, 900, "ts", "topic_of_a_savepoint"),
        Row(None, b"\xff", 0, 8, "ts", "insight_rules"),
    ]
    sent = [(tag.tag_id, row) for value in rows for tag, row in reader.process_element(value, context)]
    assert [(tag, row[0]) for tag, row in sent] == 2 * [("to-rule-book", "rules")]
    decode = flink._event_decoder(BOOK)
    assert [decode(row[1]) for _, row in sent] == [
        RuleRecord("insight_rules", 0, 7, 5, "a", None, "T"),
        RuleRecord("insight_rules", 0, 8, 5, "", b"\xff", "T"),
    ]


def test_the_book_broadcasts_its_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flink, "_calm_garbage_collector", lambda: None)
    step = KeyedMachine(BOOK, [], [], [PublishedRule])
    step.open(FakeRuntimeContext())
    text = b"{id: a, version: 1, title: t, by: env, within: 1m, steps: [{name: a, insight: {kind: error_ratio}}]}"
    event = msgspec.msgpack.encode(RuleRecord("insight_rules", 0, 7, NOW_MS, "a", text))
    ((tag, row),) = step.process_element(event, FakeContext(FakeTimers(BEGIN_OF_TIME), key="rules"))
    assert (tag.tag_id, row[0], PUBLISHED_CODEC.decode(row[1]).offset) == ("rules", "a", 7)
