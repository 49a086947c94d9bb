"""Last revisions of the insights of a topic."""

from typing import Any

import pytest

from reasoner.clients import insight_topic
from reasoner.clients.insight_topic import committed, last_revisions
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
    """A consumer that keeps the settings it was made with. A topic has one partition; `gone` does not exist."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.closed = False

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return None if topic == "gone" else {0}

    def assign(self, parts: list[Any]) -> None:
        self.parts = parts

    def seek_to_beginning(self, *parts: Any) -> None:
        assert list(parts) == self.parts

    def close(self) -> None:
        self.closed = True


def test_messages_of_open_and_aborted_transactions_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure the job sends the insights since the last checkpoint again: all but one copy is aborted."""
    monkeypatch.setattr(insight_topic, "KafkaConsumer", FakeConsumer)
    with committed("kafka:9092", "insight_out") as consumer:
        assert consumer.settings["isolation_level"] == "read_committed"
        assert not consumer.closed
    assert consumer.closed


def test_a_topic_that_does_not_exist_is_a_sentence_with_the_command_that_makes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(insight_topic, "KafkaConsumer", FakeConsumer)
    wanted = "Kafka at kafka:9092 has no topic gone: create it with `reasoner topics create`"
    with pytest.raises(CommandFailed, match=wanted), committed("kafka:9092", "gone"):
        pass
