"""An OTLP export request for a topic: readers and generators yield it, the player and the local run take it."""

from dataclasses import dataclass

from state_schemas.telemetry.signals import SignalType


@dataclass(frozen=True, slots=True)
class Message:
    """An OTLP export request of kind topic_kind, protobuf or JSON (readers recognise the encoding).

    - timestamp_ms: the Kafka record timestamp, epoch ms: when the Collector sent it; lateness is judged from it.
    - partition: of the topic for topic_kind; None until `placed`.
    - reached_ms: the timestamp that all partitions have reached with it; None is that of the newest message so far.
    """

    topic_kind: SignalType
    value: bytes
    timestamp_ms: int
    partition: int | None = None
    reached_ms: int | None = None
