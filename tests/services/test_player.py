"""Player of messages into a real broker: it sends all of them, in order, at their timestamps, in bounded memory."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.errors import CommandFailed
from reasoner.recordings import player
from reasoner.recordings.message import Message
from reasoner.recordings.player import Compression, PlayOptions, play
from reasoner.traffic import shop
from state_schemas.telemetry.signals import SIGNALS, SignalType
from tests.support.reshaped import spread

pytestmark = pytest.mark.services

START_MS = 1_700_000_000_000  # older than the default retention of a topic
NUMBERS = count()


@dataclass
class FakeTime:
    """Clock that advances only in `sleep`."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, duration_s: float) -> None:
        self.slept.append(duration_s)
        self.now += duration_s


def fresh_topics(kafka: str, partitions: int = 2) -> dict[SignalType, str]:
    """Create topics that no other test uses."""
    topics = {kind: f"player-{next(NUMBERS)}-{kind}" for kind in SIGNALS}
    create_topics(kafka, dict.fromkeys(topics.values(), TopicSpec(partitions, KEEP_FOR_EVER_MS)))
    return topics


def stored(kafka: str, topic: str, partition: int) -> Iterator[Any]:
    """Yield the records of a partition from its first to its last offset."""
    assigned = TopicPartition(topic, partition)
    consumer = KafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    try:
        consumer.assign([assigned])
        consumer.seek_to_beginning(assigned)
        end = consumer.end_offsets([assigned])[assigned]
        while consumer.position(assigned) < end:
            for batch in consumer.poll(timeout_ms=10_000).values():
                yield from batch
    finally:
        consumer.close()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_every_message_is_stored_in_its_partition_in_order_at_its_timestamp(
    kafka: str, compression: Compression
) -> None:
    topics = fresh_topics(kafka)
    messages = list(spread(shop.messages(1, START_MS, 20_000, None), 2, seed=1))

    report = play(messages, kafka, topics, PlayOptions(compression=compression))

    assert report.messages == Counter(message.topic_kind for message in messages)
    assert report.value_bytes == sum(len(message.value) for message in messages)
    for kind in SIGNALS:
        for partition in (0, 1):
            sent = [(m.timestamp_ms, m.value) for m in messages if (m.topic_kind, m.partition) == (kind, partition)]
            found = list(stored(kafka, topics[kind], partition))
            assert [(record.timestamp, record.value) for record in found] == sent


def test_messages_beyond_the_bound_in_flight_wait_and_all_arrive(kafka: str) -> None:
    """100 messages of 100 kB with room for 3 in flight, and one larger than the bound: all are sent."""
    topics = fresh_topics(kafka)
    values = [bytes([number]) * 100_000 for number in range(100)] + [b"y" * 500_000]
    options = PlayOptions(in_flight_bytes_max=300_000)

    report = play((Message("traces", value, START_MS, 0) for value in values), kafka, topics, options)

    assert report.value_bytes == sum(map(len, values))


def test_messages_are_sent_at_their_time_divided_by_the_speed(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeTime()
    monkeypatch.setattr(player, "time", clock)
    times_ms = [START_MS, START_MS + 3_000, START_MS + 3_000, START_MS + 9_000]
    messages = [Message("logs", b"x", time_ms, 0) for time_ms in times_ms]

    play(messages, kafka, fresh_topics(kafka), PlayOptions(speed=30.0))

    assert clock.slept == pytest.approx([0.1, 0.2])


def test_progress_is_the_timestamp_of_every_fiftieth_message(kafka: str) -> None:
    seen: list[int] = []
    messages = [Message("logs", b"xy", START_MS + n, 0) for n in range(120)]

    play(messages, kafka, fresh_topics(kafka), on_progress=seen.append)

    assert seen == [START_MS + 49, START_MS + 99]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message("traces", b"x", START_MS, 7), "no partition 7"),
        (Message("traces", b"x" * (9 << 20), START_MS, 0), "MessageSizeTooLarge"),
    ],
)
def test_a_message_that_cannot_be_sent_is_an_error_with_the_reason(kafka: str, message: Message, reason: str) -> None:
    with pytest.raises(CommandFailed, match=reason):
        play([message], kafka, fresh_topics(kafka))


def test_a_message_that_the_broker_refuses_later_is_an_error_and_not_a_smaller_count(kafka: str) -> None:
    name = f"player-{next(NUMBERS)}"
    create_topics(kafka, {name: TopicSpec(1, KEEP_FOR_EVER_MS, max_message_bytes=1_000)})

    with pytest.raises(CommandFailed, match=rf"{name}, partition 0: .* timestamp {START_MS} was not taken"):
        play([Message("logs", b"x" * 5_000, START_MS, 0)], kafka, {"logs": name})


def test_a_kind_without_topic_is_an_error(kafka: str) -> None:
    topics = fresh_topics(kafka)
    del topics["logs"]

    with pytest.raises(CommandFailed, match="no topic for logs"):
        play([Message("logs", b"x", START_MS, 0)], kafka, topics)


def test_topics_are_created_once_and_then_left_alone(kafka: str) -> None:
    name = f"player-{next(NUMBERS)}"
    for partitions in (3, 5):
        create_topics(kafka, {name: TopicSpec(partitions, KEEP_FOR_EVER_MS)})

    with closing(KafkaConsumer(bootstrap_servers=kafka)) as consumer:
        assert len(consumer.partitions_for_topic(name)) == 3
