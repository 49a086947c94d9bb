"""Where a message lies on Kafka."""

from typing import NamedTuple

import msgspec


class OffsetRange(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Kafka messages first_offset..last_offset of a partition, both included; others may lie between."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class KafkaPosition(NamedTuple):
    """Where a message lies. timestamp_ms: the record timestamp, epoch ms."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
