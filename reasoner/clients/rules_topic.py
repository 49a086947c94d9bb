"""The rules topic: reading all of it, and sending records to it."""

from collections.abc import Iterable

from reasoner.clients.broker import ANSWER_MS, producer_of
from reasoner.clients.insight_topic import committed, records_to_end
from state_schemas.aggregates.published_rules import RuleRecord
from state_schemas.telemetry.message import KafkaPosition


def read_rule_records(bootstrap: str, topic: str) -> list[RuleRecord]:
    """Return every record up to the current end, by offset. Raises CommandFailed."""
    with committed(bootstrap, topic) as consumer:
        found = records_to_end(consumer)
    return [
        RuleRecord.at(KafkaPosition(topic, one.partition, one.offset, one.timestamp), one.key, one.value)
        for one in sorted(found, key=lambda one: (one.partition, one.offset))
    ]


def send_rule_records(bootstrap: str, topic: str, records: Iterable[tuple[str, bytes | None, int]]) -> None:
    """Send records (rule id, text or None, timestamp in epoch ms) and wait until the broker has them.

    Raises CommandFailed; those before it are in the topic.
    """
    with producer_of(bootstrap) as producer:
        for key, value, timestamp_ms in records:
            sent = producer.send(topic, key=key.encode(), value=value, timestamp_ms=timestamp_ms)
            sent.get(timeout=ANSWER_MS / 1000)
