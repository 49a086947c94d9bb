"""Messages of several topics between two offsets of each partition, in the order of their Kafka timestamps."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from reasoner.clients.broker import ANSWER_MS, consumer_of, no_answer, partitions
from reasoner.clients.topic_samples import newest_timestamp_ms
from reasoner.errors import CommandFailed, WrongUse
from udfs.linear import expression

POLLED_MAX: Final = 100  # records of a poll; of each partition one more can wait
POLL_MS: Final = 1_000
_RANGE: Final = expression(rb"(.+)/([0-9]{1,9}):([0-9]{1,18})-([0-9]{1,18})")

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
    found = _RANGE.fullmatch(text.encode(errors="replace"))
    if found:
        topic, (partition, first, last) = found[1].decode(), (int(found[number]) for number in (2, 3, 4))
        if topic in topics and first <= last:
            return TopicPartition(topic, partition), range(first, last + 1)
    example = " or ".join(f"{name}/0:100-200" for name in topics)
    message = f"--offsets is {text!r:.200}, expected TOPIC/PARTITION:FIRST-LAST, such as {example}"
    raise WrongUse(message)


class Read(NamedTuple):
    """A record of Kafka's. reached_ms: the time that all partitions have reached with it, epoch ms."""

    record: Any
    reached_ms: int


def records_between(bootstrap: str, offsets: Offsets, idle_ms: int) -> Iterator[Read]:
    """Yield the committed records between these offsets, about in the order in which they came.

    That is by timestamp, of one time by name and number of their partitions, and those of a partition by offset: one
    ahead of its time came before the records behind it. Partitions reach the newest timestamp that they have given;
    all have reached the smallest of these, without those that are at their end or have given nothing for idle_ms (0:
    those are waited for). Lazy: at most POLLED_MAX + 1 records of each partition wait. Raises CommandFailed.
    """
    settings = {"isolation_level": "read_committed", "max_poll_records": POLLED_MAX, "auto_offset_reset": "none"}
    with consumer_of(bootstrap, **settings) as consumer:
        parts = _refilled(consumer, [_Part(part, offsets[part].start, offsets[part].stop) for part in sorted(offsets)])
        now_ms = min((part.waiting[0][0] for part in parts), default=0)
        for part in parts:
            part.gave_ms = now_ms
        while parts:
            part = min(parts, key=lambda part: part.waiting[0][0])
            came_ms, record = part.waiting.popleft()
            part.gave_ms = now_ms = max(now_ms, came_ms)
            part.newest_ms = max(part.newest_ms, record.timestamp)
            awaited = (part for part in parts if not idle_ms or now_ms - part.gave_ms <= idle_ms)
            yield Read(record, min(part.newest_ms for part in awaited))
            parts = _refilled(consumer, parts)


@dataclass(slots=True)
class _Part:
    """A partition between the offset of the next record and its end, and what waits of it, each with when it came.

    A record came no later than the next one, of which one waits too unless it is the last.
    """

    part: TopicPartition
    at: int
    end: int
    waiting: deque[tuple[int, Any]] = field(default_factory=deque)
    # Newest timestamp that it has given, and the time at which it has given a record.
    newest_ms: int = 0
    gave_ms: int = 0

    @property
    def is_ready(self) -> bool:
        return len(self.waiting) > 1 or (bool(self.waiting) and self.at >= self.end)

    def add(self, records: Iterable[Any]) -> None:
        held = [record for _, record in self.waiting]
        held += (record for record in records if record.offset < self.end)
        self.waiting.clear()
        for record in reversed(held):
            came_ms = min(record.timestamp, self.waiting[0][0]) if self.waiting else record.timestamp
            self.waiting.appendleft((came_ms, record))


def _refilled(consumer: Any, parts: list[_Part]) -> list[_Part]:
    """Poll until records of each partition wait; return the partitions without those that are at their end.

    Only partitions of which too few wait are assigned: one that is paused, and resumed while another has ended, is
    never read again (kafka-python 3.0).
    """
    left, deadline_s = -1, 0.0
    while True:
        parts = [part for part in parts if part.waiting or part.at < part.end]
        empty = {part.part: part for part in parts if not part.is_ready}
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
        for name, records in _polled(consumer).items():
            empty[name].add(records)
        for name, part in empty.items():
            part.at = consumer.position(name)


def _polled(consumer: Any) -> Mapping[TopicPartition, Sequence[Any]]:
    """Poll. Raises CommandFailed where retention has deleted what is read: without it the rest would be missing."""
    try:
        found: Mapping[TopicPartition, Sequence[Any]] = consumer.poll(timeout_ms=POLL_MS)
    except OffsetOutOfRangeError as error:
        ((part, offset),) = error.args[0].items()
        message = f"offset {offset} of {part.topic}/{part.partition} was deleted meanwhile: begin later"
        raise CommandFailed(message) from error
    return found
