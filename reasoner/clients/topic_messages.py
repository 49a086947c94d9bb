"""Messages of several topics between two offsets of each partition, in the order of their Kafka timestamps."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import TopicPartition

from reasoner.clients.broker import ANSWER_MS, consumer_of, no_answer, partitions
from reasoner.clients.topic_samples import newest_timestamp_ms
from reasoner.errors import CommandFailed, WrongUse

POLLED_MAX: Final = 100  # records of a poll, and so of each partition that wait
POLL_MS: Final = 1_000

# Offsets of each partition, from the first one to the one behind the last.
Offsets = Mapping[TopicPartition, range]


def offsets_since(bootstrap: str, topics: Sequence[str], back_ms: int) -> Offsets:
    """Return the offsets of the messages since so long before the newest one of all topics. Raises CommandFailed."""
    since_ms = max(0, max(newest_timestamp_ms(bootstrap, topic) for topic in topics) - back_ms)
    parts = [part for topic in topics for part in partitions(bootstrap, topic)]
    with consumer_of(bootstrap, isolation_level="read_committed") as consumer:
        firsts, ends = consumer.offsets_for_times(dict.fromkeys(parts, since_ms)), consumer.end_offsets(parts)
    return {part: range(firsts[part].offset, ends[part]) for part in parts if firsts[part]}


def offsets_named(bootstrap: str, topics: Sequence[str], texts: Sequence[str]) -> Offsets:
    """Return the offsets of texts such as `logs_raw/0:100-200`, both ends included. Raises WrongUse or CommandFailed.

    All of them must be there: what has been deleted would be missing from the result.
    """
    found = dict(_parsed(text, topics) for text in texts)
    if len(found) < len(texts):
        message = f"--offsets has {', '.join(texts)}, expected one range of each partition"
        raise WrongUse(message)
    known = [part for topic in sorted({part.topic for part in found}) for part in partitions(bootstrap, topic)]
    with consumer_of(bootstrap, isolation_level="read_committed") as consumer:
        firsts, ends = consumer.beginning_offsets(known), consumer.end_offsets(known)
    for part, asked in found.items():
        first, end = firsts.get(part, 0), ends.get(part, 0)
        if asked.start < first or asked.stop > end:
            has = f"offsets {first} to {end - 1}" if end > first else "no message"
            message = (
                f"{part.topic}/{part.partition} on {bootstrap} has {has}, expected {asked.start} to {asked.stop - 1}: "
                "name offsets that are there"
            )
            raise CommandFailed(message)
    return found


def _parsed(text: str, topics: Sequence[str]) -> tuple[TopicPartition, range]:
    place, _, ends = text.rpartition(":")
    topic, _, partition = place.rpartition("/")
    numbers = [int(one) for one in (partition, *ends.split("-")) if one.isascii() and one.isdigit() and len(one) < 19]
    if topic not in topics or len(numbers) != 3 or numbers[1] > numbers[2]:
        example = " or ".join(f"{name}/0:100-200" for name in topics)
        message = f"--offsets is {text!r}, expected TOPIC/PARTITION:FIRST-LAST, such as {example}"
        raise WrongUse(message)
    return TopicPartition(topic, numbers[0]), range(numbers[1], numbers[2] + 1)


def records_between(bootstrap: str, offsets: Offsets) -> Iterator[Any]:
    """Yield Kafka's committed records between these offsets, by timestamp, partitions of one time by name and number.

    A partition that is out of order is as it is. Lazy: at most POLLED_MAX records of each partition wait. Raises
    CommandFailed.
    """
    with consumer_of(bootstrap, isolation_level="read_committed", max_poll_records=POLLED_MAX) as consumer:
        parts = [_Part(part, offsets[part].start, offsets[part].stop) for part in sorted(offsets)]
        while parts := _refilled(consumer, parts):
            yield min(parts, key=lambda part: part.waiting[0].timestamp).waiting.popleft()


@dataclass(slots=True)
class _Part:
    """A partition between the offset of the next record and its end, and what waits of it."""

    part: TopicPartition
    at: int
    end: int
    waiting: deque[Any] = field(default_factory=deque)


def _refilled(consumer: Any, parts: list[_Part]) -> list[_Part]:
    """Poll until a record of each partition waits; return the partitions without those that are at their end.

    Only partitions of which none waits are assigned: one that is paused, and resumed while another has ended, is never
    read again (kafka-python 3.0).
    """
    left, deadline_s = -1, 0.0
    while True:
        parts = [part for part in parts if part.waiting or part.at < part.end]
        empty = {part.part: part for part in parts if not part.waiting}
        if not empty:
            return parts
        now_s, before = time.monotonic(), left
        left = sum(part.end - part.at for part in empty.values())
        if left != before:
            deadline_s = now_s + ANSWER_MS / 1000
        elif now_s > deadline_s:
            raise no_answer(consumer.config["bootstrap_servers"], f"{left} messages do not come")
        consumer.assign(list(empty))
        for name, part in empty.items():
            consumer.seek(name, part.at)
        for name, records in consumer.poll(timeout_ms=POLL_MS).items():
            empty[name].waiting += (record for record in records if record.offset < empty[name].end)
        for name, part in empty.items():
            part.at = consumer.position(name)
