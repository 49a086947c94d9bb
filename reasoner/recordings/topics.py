"""Creation of missing topics and comparison of existing ones with what is required."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError

from reasoner.errors import CommandFailed

__all__ = ["KEEP_FOR_EVER_MS", "TopicMismatch", "TopicSpec", "create_topics"]

KEEP_FOR_EVER_MS: Final = -1


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """Required properties of a topic."""

    # Least number of partitions.
    partitions: int
    # Milliseconds by record timestamp; a topic for recordings needs KEEP_FOR_EVER_MS.
    retention_ms: int
    cleanup_policy: Literal["delete", "compact"] = "delete"
    # Bytes of a record batch, compressed.
    max_message_bytes: int = 8 << 20
    # Copies of a partition; 1 on a single broker.
    replication: int = 1


class TopicMismatch(CommandFailed):
    """Existing topics that differ from what is required; the text names each, found, expected and the next step."""


def create_topics(bootstrap: str, specs: Mapping[str, TopicSpec]) -> tuple[str, ...]:
    """Create missing topics, wait until all have leaders, and return the names of the new ones, sorted.

    It is safe to repeat and to run in two processes at once. An existing topic is never changed: more partitions,
    longer retention or a larger message limit than required are accepted; less, or another clean-up policy, raises
    TopicMismatch with all faults, after the missing topics were created. Raises kafka.errors.KafkaError if the broker
    cannot be reached.
    """
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        missing = sorted(set(specs) - set(admin.list_topics()))
        created = tuple(name for name in missing if _create(admin, name, specs[name]))
        admin.wait_for_topics(sorted(specs))
        faults = _faults(admin, {name: spec for name, spec in specs.items() if name not in created})
    finally:
        admin.close()
    if faults:
        raise TopicMismatch("; ".join(faults))
    return created


def _create(admin: Any, name: str, spec: TopicSpec) -> bool:
    """Create a topic. -> False if another process has created it first."""
    configs = {
        "retention.ms": str(spec.retention_ms),
        "cleanup.policy": spec.cleanup_policy,
        "max.message.bytes": str(spec.max_message_bytes),
    }
    wanted = {"num_partitions": spec.partitions, "replication_factor": spec.replication, "configs": configs}
    try:
        admin.create_topics({name: wanted})
    except TopicAlreadyExistsError:
        return False
    return True


def _faults(admin: Any, specs: Mapping[str, TopicSpec]) -> list[str]:
    if not specs:
        return []
    names = sorted(specs)
    partitions = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(names)}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    faults = []
    for name in names:
        spec, config = specs[name], {key: entry["value"] for key, entry in configs[name].items()}
        retention_ms, max_message_bytes = int(config["retention.ms"]), int(config["max.message.bytes"])
        found: list[tuple[str, object, object]] = []
        if partitions[name] < spec.partitions:
            found.append(("partitions", partitions[name], spec.partitions))
        if config["cleanup.policy"] != spec.cleanup_policy:
            found.append(("cleanup.policy", config["cleanup.policy"], spec.cleanup_policy))
        if _is_shorter(retention_ms, spec.retention_ms):
            found.append(("retention.ms", retention_ms, spec.retention_ms))
        if max_message_bytes < spec.max_message_bytes:
            found.append(("max.message.bytes", max_message_bytes, spec.max_message_bytes))
        faults += [
            f"topic {name!r}: {key} is {value}, expected {wanted}; alter the topic with kafka-configs or"
            " kafka-topics --alter, or delete it and run again"
            for key, value, wanted in found
        ]
    return faults


def _is_shorter(found_ms: int, wanted_ms: int) -> bool:
    if found_ms == KEEP_FOR_EVER_MS:
        return False
    return wanted_ms == KEEP_FOR_EVER_MS or found_ms < wanted_ms
