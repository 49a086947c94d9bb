"""The last messages of a topic, and its settings."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from kafka.admin import ConfigResource, ConfigResourceType

from reasoner.clients.broker import admin_of, consumer_of, partitions
from udfs.insights.wording import elapsed

WAIT_MS: Final = 2_000
_RETENTION: Final = "retention.ms"
_CLEANUP: Final = "cleanup.policy"


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
        return f"{self.partitions} partitions, kept {kept}{'' if self.cleanup == 'delete' else f', {self.cleanup}'}"


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


def last_messages(bootstrap: str, topic: str, per_partition: int) -> list[Sample]:
    """Return the last messages of each partition, at most so many, in the order of their timestamps.

    Raises CommandFailed.
    """
    with consumer_of(bootstrap) as consumer:
        parts = partitions(bootstrap, topic)
        consumer.assign(parts)
        begins, ends = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
        for part in parts:
            consumer.seek(part, max(begins[part], ends[part] - per_partition))
        found: list[Sample] = []
        while any(consumer.position(part) < ends[part] for part in parts):
            polled = consumer.poll(timeout_ms=WAIT_MS)
            if not polled:
                break  # the rest of a partition may be marks of transactions alone
            found += (Sample(record.timestamp, record.value or b"") for batch in polled.values() for record in batch)
    return sorted(found)
