"""The last messages of a topic, and its settings."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from reasoner.clients.broker import admin_of, consumer_of, partitions
from udfs.insights.wording import elapsed

WAIT_MS: Final = 2_000
_RETENTION: Final = "retention.ms"
_CLEANUP: Final = "cleanup.policy"
PLACES: Final = 10


class Sample(NamedTuple):
    """A message. timestamp_ms: Kafka's, epoch ms."""

    timestamp_ms: int
    value: bytes


class TopicState(NamedTuple):
    """A topic. retention_ms: -1 for ever. cleanup: `delete`, `compact`, or both with a comma."""

    partitions: int
    retention_ms: int
    cleanup: str = "delete"

    def text(self) -> str:
        """Return the state as a part of a sentence."""
        kept = "for ever" if self.retention_ms < 0 else elapsed(self.retention_ms)
        partitions = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
        return f"{partitions}, kept {kept}{'' if self.cleanup == 'delete' else f', {self.cleanup}'}"


def topic_states(bootstrap: str, names: Iterable[str]) -> dict[str, TopicState]:
    """Return the topics of these names that exist. Raises CommandFailed."""
    with admin_of(bootstrap) as admin:
        present = sorted(set(names) & set(admin.list_topics()))
        if not present:
            return {}
        partitions = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(present)}
        asked = [
            ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys((_RETENTION, _CLEANUP))) for name in present
        ]
        (configs,) = admin.describe_configs(asked, config_filter="all").values()
    values = {name: {key: found["value"] for key, found in configs[name].items()} for name in present}
    return {
        name: TopicState(partitions[name], int(values[name][_RETENTION]), values[name][_CLEANUP]) for name in present
    }


def newest_messages(bootstrap: str, topic: str, since_ms: int, per_partition: int) -> list[Sample]:
    """Return at most so many messages of each partition with timestamps since then, in the order of their timestamps.

    They come from PLACES places spread evenly, the end among them: where agents ship what they kept, the last messages
    alone are the newest records of each. Of a partition without a message since then, from all of it. Raises
    CommandFailed.
    """
    with consumer_of(bootstrap, max_poll_records=per_partition) as consumer:
        parts = partitions(bootstrap, topic)
        consumer.assign(parts)
        begins, ends = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
        since = consumer.offsets_for_times(dict.fromkeys(parts, since_ms))
        firsts = {part: since[part].offset if since[part] else begins[part] for part in parts}
        found: dict[tuple[TopicPartition, int], Sample] = {}
        for number in range(PLACES):
            stops = {part: _stop(firsts[part], ends[part], number, per_partition) for part in parts}
            for part in parts:
                consumer.seek(part, max(firsts[part], stops[part] - per_partition // PLACES))
            found |= {
                (part, record.offset): Sample(record.timestamp, record.value or b"")
                for part, record in _up_to(consumer, stops)
            }
    return sorted(found.values())


def newest_timestamp_ms(bootstrap: str, topic: str) -> int:
    """Return the timestamp of the last message of any partition, 0 where there is none. Raises CommandFailed."""
    with consumer_of(bootstrap) as consumer:
        parts = partitions(bootstrap, topic)
        consumer.assign(parts)
        begins, ends = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
        for part in parts:
            consumer.seek(part, max(begins[part], ends[part] - 1))
        return max((record.timestamp for _, record in _up_to(consumer, ends)), default=0)


def _up_to(consumer: Any, stops: Mapping[TopicPartition, int]) -> Iterator[tuple[TopicPartition, Any]]:
    """Yield the records from the positions of a consumer to an offset of each partition, as far as they come.

    The rest of a partition may be marks of transactions alone.
    """
    while any(consumer.position(part) < stop for part, stop in stops.items()):
        polled = consumer.poll(timeout_ms=WAIT_MS)
        if not polled:
            return
        yield from ((part, record) for part, batch in polled.items() for record in batch if record.offset < stops[part])


def _stop(first: int, end: int, number: int, per_partition: int) -> int:
    """Return the offset after the messages of a place."""
    share = per_partition // PLACES
    return min(end, first + share + max(0, end - first - share) * number // (PLACES - 1))
