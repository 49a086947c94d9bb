"""Last revisions of the insights of a topic."""

import time
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any

import pytest
from kafka import TopicPartition

from reasoner.clients import insight_topic
from reasoner.clients.insight_topic import committed, last_revisions, to_end
from reasoner.errors import CommandFailed
from state_schemas.contracts.insight import Evidence, Insight, Status, Window, to_json


def _body(insight_id: str, revision: int, status: Status = "open", start_ms: int = 0) -> bytes:
    return to_json(
        Insight(
            insight_id=insight_id * 32,
            revision=revision,
            status=status,
            kind="latency_spike",
            env="e",
            service="s",
            subject="",
            window=Window(start_ms=start_ms, end_ms=start_ms + 1),
            severity="info",
            confidence=1,
            title="t",
            measures={},
            evidence=Evidence(),
        )
    )


def test_the_highest_revision_wins_whatever_the_order() -> None:
    held = last_revisions([_body("a", 2), _body("a", 10), _body("a", 3)])
    assert [insight.revision for insight in held] == [10]


def test_a_retracted_insight_does_not_hold_unless_a_later_revision_is_open() -> None:
    assert last_revisions([_body("a", 0), _body("a", 1, "retracted")]) == []
    again = last_revisions([_body("a", 0), _body("a", 1, "retracted"), _body("a", 2)])
    assert [insight.status for insight in again] == ["open"]


def test_the_order_is_by_start_not_by_arrival() -> None:
    held = last_revisions([_body("b", 0, start_ms=2), _body("a", 0, start_ms=1)])
    assert [insight.window.start_ms for insight in held] == [1, 2]


class FakeConsumer:
    """A consumer of one partition whose end is at `end`, of which it gets one message at each of the first polls."""

    def __init__(self, end: int = 0, sent: int = 0) -> None:
        self.config = {"bootstrap_servers": "kafka:9092"}
        self.end, self.sent, self.read = end, sent, 0

    def assign(self, parts: list[Any]) -> None:
        self.parts = parts

    def assignment(self) -> list[Any]:
        return [TopicPartition("insight_out", 0)]

    def seek_to_beginning(self, *parts: Any) -> None:
        assert list(parts) == self.parts

    def end_offsets(self, parts: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(parts, self.end)

    def position(self, part: Any) -> int:
        return self.read

    def poll(self, timeout_ms: int) -> dict[Any, list[Any]]:
        self.read = min(self.sent, self.read + 1)
        return {}


def test_messages_of_open_and_aborted_transactions_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure the job sends the insights since the last checkpoint again: all but one copy is aborted."""
    asked: dict[str, Any] = {}

    def consumer_of(bootstrap: str, **settings: Any) -> AbstractContextManager[FakeConsumer]:
        asked.update(settings)
        return nullcontext(FakeConsumer())

    monkeypatch.setattr(insight_topic, "consumer_of", consumer_of)
    monkeypatch.setattr(insight_topic, "partitions", lambda bootstrap, topic: [TopicPartition(topic, 0)])
    with committed("kafka:9092", "insight_out"):
        assert asked["isolation_level"] == "read_committed"


def test_messages_that_do_not_come_are_waited_for_as_long_as_others_come(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count()
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    slow = FakeConsumer(end=100, sent=100)
    to_end(slow)
    assert slow.read == 100
    with pytest.raises(CommandFailed, match=r"Kafka at kafka:9092 does not answer .*\(60 messages do not come\)"):
        to_end(FakeConsumer(end=100, sent=40))
