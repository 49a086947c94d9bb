"""Creation of missing topics."""

from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final, Literal

from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

KEEP_FOR_EVER_MS: Final = -1


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """Properties of a new topic."""

    partitions: int
    # Milliseconds by record timestamp; a topic for recordings needs KEEP_FOR_EVER_MS.
    retention_ms: int
    cleanup_policy: Literal["delete", "compact"] = "delete"
    # Bytes of a record batch, compressed.
    max_message_bytes: int = 8 << 20


def create_topics(bootstrap: str, specs: Mapping[str, TopicSpec]) -> None:
    """Create missing topics and wait until all have leaders; a topic that exists is left as it is.

    It is safe to repeat and to run in two processes at once. Raises kafka.errors.KafkaError if the broker cannot be
    reached.
    """
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        for name in sorted(set(specs) - set(admin.list_topics())):
            spec = specs[name]
            configs = {
                "retention.ms": str(spec.retention_ms),
                "cleanup.policy": spec.cleanup_policy,
                "max.message.bytes": str(spec.max_message_bytes),
            }
            wanted = {"num_partitions": spec.partitions, "replication_factor": 1, "configs": configs}
            with suppress(TopicAlreadyExistsError):
                admin.create_topics({name: wanted})
        admin.wait_for_topics(sorted(specs))
