"""The rules topic: reading all of it, and sending records to it."""

from collections.abc import Iterable
from typing import Final

from reasoner.clients.broker import ANSWER_MS, consumer_of, no_answer, partitions, producer_of
from state_schemas.aggregates.published_rules import RuleRecord

SILENT_POLLS_MAX: Final = 2


def read_rule_records(bootstrap: str, topic: str) -> list[RuleRecord]:
    """Return every record up to the current end, by offset. Raises CommandFailed."""
    found: list[RuleRecord] = []
    with consumer_of(bootstrap, isolation_level="read_committed") as consumer:
        parts = partitions(bootstrap, topic)
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends, silent = consumer.end_offsets(parts), 0
        while any(consumer.position(part) < end for part, end in ends.items()):
            polled = consumer.poll(timeout_ms=ANSWER_MS // 2)
            silent = 0 if polled else silent + 1
            if silent == SILENT_POLLS_MAX:
                raise no_answer(bootstrap, f"the records of {topic} do not come")
            found += (
                RuleRecord(
                    topic=topic,
                    partition=record.partition,
                    offset=record.offset,
                    timestamp_ms=record.timestamp,
                    key=(record.key or b"").decode(errors="replace"),
                    value=record.value,
                )
                for records in polled.values()
                for record in records
            )
    return sorted(found, key=lambda record: (record.partition, record.offset))


def send_rule_records(bootstrap: str, topic: str, records: Iterable[tuple[str, bytes | None, int]]) -> None:
    """Send records (rule id, text or None, timestamp in epoch ms) and wait until the broker has them.

    Raises CommandFailed; those before it are in the topic.
    """
    with producer_of(bootstrap) as producer:
        for key, value, timestamp_ms in records:
            sent = producer.send(topic, key=key.encode(), value=value, timestamp_ms=timestamp_ms)
            sent.get(timeout=ANSWER_MS / 1000)
