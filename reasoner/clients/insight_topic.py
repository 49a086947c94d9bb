"""Reading of `insight_out` as a consumer should do it.

Only committed messages are read, and the last revision of an id is valid.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from reasoner.errors import CommandFailed
from state_schemas.contracts.insight import Insight, from_json


@contextmanager
def committed(bootstrap: str, topic: str) -> Iterator[Any]:
    """Yield a consumer at the beginning of the topic that reads committed messages only."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        parts = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic) or ()]
        if not parts:
            message = (
                f"Kafka at {bootstrap} has no topic {topic}: create it with `reasoner topics create`, or name another"
            )
            raise CommandFailed(message)
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        yield consumer
    finally:
        consumer.close()


def poll(consumer: Any, wait_ms: int) -> list[bytes]:
    """Return the values that arrive within wait_ms, in partition order."""
    polled = consumer.poll(timeout_ms=wait_ms)
    return [record.value for part in sorted(polled) for record in polled[part]]


def read_all(bootstrap: str, topic: str) -> list[bytes]:
    """Return every committed value up to the current end of the topic; its transactions must be finished."""
    with committed(bootstrap, topic) as consumer:
        return to_end(consumer)


def to_end(consumer: Any) -> list[bytes]:
    """Return the values from the position of a consumer up to the current end of its topic."""
    ends = consumer.end_offsets(sorted(consumer.assignment()))
    values: list[bytes] = []
    while any(consumer.position(part) < end for part, end in ends.items()):
        values += poll(consumer, 1_000)
    return values


def hidden(bootstrap: str, topic: str) -> int:
    """Return the number of offsets that a reader of committed messages cannot see yet: a transaction is open."""
    with committed(bootstrap, topic) as consumer:
        parts = sorted(consumer.assignment())
        stable = consumer.end_offsets(parts)
    every = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        every.assign(parts)
        return sum(end - stable[part] for part, end in every.end_offsets(parts).items())
    finally:
        every.close()


def last_revisions(bodies: Iterable[bytes]) -> list[Insight]:
    """Return the highest revision of each id, without retracted insights, in the order of `sort_key`."""
    in_order = sorted(map(from_json, bodies), key=lambda insight: insight.revision)
    newest = {insight.insight_id: insight for insight in in_order}
    return sorted((insight for insight in newest.values() if insight.status != "retracted"), key=sort_key)


def sort_key(insight: Insight) -> tuple[int, str, str, str, str, str, str, int]:
    """Return the key of the order in which insights are printed: start, subject, id, revision."""
    about = (insight.env, insight.namespace, insight.service, insight.kind, insight.subject)
    return (insight.window.start_ms, *about, insight.insight_id, insight.revision)
