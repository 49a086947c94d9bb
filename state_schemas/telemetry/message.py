"""Positions of messages on Kafka."""

from typing import NamedTuple

import msgspec


class OffsetRange(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Kafka messages first_offset..last_offset of a partition, both included; unrelated ones may lie between them."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class KafkaPosition(NamedTuple):
    """Position of one message."""

    topic: str
    partition: int
    offset: int
    # Kafka timestamp of the message, epoch ms.
    timestamp_ms: int

    @property
    def range(self) -> OffsetRange:
        """Return the range of this message alone."""
        return OffsetRange(self.topic, self.partition, self.offset, self.offset)
