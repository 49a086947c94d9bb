"""Topics of the job: which are there, and creation of missing ones."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError

from reasoner.clients.broker import admin_of
from state_schemas.contracts.settings import Kafka

KEEP_FOR_EVER_MS: Final = -1
HOUR_MS: Final = 3_600_000
RULES_KEPT_MS: Final = 7 * 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """Properties of a new topic."""

    partitions: int
    # Milliseconds by record timestamp; a topic for recordings needs KEEP_FOR_EVER_MS.
    retention_ms: int
    cleanup_policy: Literal["delete", "compact"] = "delete"
    # Bytes of a record batch, compressed.
    max_message_bytes: int = 8 << 20
    # Copies of each partition; -1 takes the default of the broker.
    replication: int = -1
    # Milliseconds for which a compacted topic keeps older records of a key, and marks of removal.
    compaction_lag_ms: int = 0


@dataclass(frozen=True, slots=True)
class Retention:
    """Milliseconds for which new topics keep their messages; defaults to start with, docs/configuration.md."""

    sources_ms: int = 24 * HOUR_MS
    insights_ms: int = 90 * 24 * HOUR_MS
    rejected_ms: int = 7 * 24 * HOUR_MS


def rule_specs(kafka: Kafka) -> dict[str, TopicSpec]:
    """Return the topic of rules, if the job has one.

    One partition: rules come in one order. Older versions are kept for as long as partial matches can go on under them.
    """
    spec = TopicSpec(1, KEEP_FOR_EVER_MS, "compact", compaction_lag_ms=RULES_KEPT_MS)
    return {kafka.topics.rules: spec} if kafka.topics.rules else {}


def source_names(kafka: Kafka) -> list[str]:
    """Return the topics that the job reads."""
    topics = kafka.topics
    return [topic for topic in (topics.traces, topics.logs, topics.metrics) if topic]


def sink_specs(kafka: Kafka, partitions: int, kept: Retention = Retention()) -> dict[str, TopicSpec]:
    """Return the topics that the job writes."""
    return {
        kafka.topics.insights: TopicSpec(partitions, kept.insights_ms),
        kafka.topics.rejected: TopicSpec(partitions, kept.rejected_ms),
    }


def source_specs(kafka: Kafka, partitions: int, kept: Retention = Retention()) -> dict[str, TopicSpec]:
    return dict.fromkeys(source_names(kafka), TopicSpec(partitions, kept.sources_ms))


def missing_topics(bootstrap: str, names: Iterable[str]) -> list[str]:
    """Return those of the topics that the broker does not have, in order. Raises CommandFailed."""
    with admin_of(bootstrap) as admin:
        present = set(admin.list_topics())
    return [name for name in names if name not in present]


def transaction_timeout_ms_max(bootstrap: str) -> int | None:
    """Return the longest timeout that the broker accepts for a transaction, None if it does not say it.

    Raises CommandFailed.
    """
    name = "transaction.max.timeout.ms"
    with admin_of(bootstrap) as admin:
        broker = str(admin.describe_cluster()["brokers"][0]["broker_id"])
        asked = [ConfigResource(ConfigResourceType.BROKER, broker, {name: None})]
        (configs,) = admin.describe_configs(asked, config_filter="all").values()
    found = configs.get(broker, {}).get(name, {}).get("value")
    return int(found) if found else None


def create_topics(bootstrap: str, specs: Mapping[str, TopicSpec]) -> list[str]:
    """Create missing topics and wait until all have leaders; return the names of those that were missing.

    A topic that exists is left as it is. It is safe to repeat and to run in two processes at once. Raises CommandFailed
    if the broker cannot be reached or refuses.
    """
    created = []
    with admin_of(bootstrap) as admin:
        for name in sorted(set(specs) - set(admin.list_topics())):
            spec = specs[name]
            configs = {
                "retention.ms": str(spec.retention_ms),
                "cleanup.policy": spec.cleanup_policy,
                "max.message.bytes": str(spec.max_message_bytes),
            }
            if spec.compaction_lag_ms:
                lag_ms = str(spec.compaction_lag_ms)
                configs |= {"min.compaction.lag.ms": lag_ms, "delete.retention.ms": lag_ms}
            wanted = {"num_partitions": spec.partitions, "replication_factor": spec.replication, "configs": configs}
            with suppress(TopicAlreadyExistsError):
                admin.create_topics({name: wanted})
                created.append(name)
        admin.wait_for_topics(sorted(specs))
    return created
