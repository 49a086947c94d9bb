"""One OTLP export request on its way to a topic: what every source here yields and every sink takes."""

from dataclasses import dataclass

from state_schemas.telemetry.signals import SignalType

__all__ = ["Message", "SignalType"]


@dataclass(frozen=True, slots=True)
class Message:
    """value: an OTLP export request of kind topic_kind, protobuf or JSON (readers tell them apart by content).

    timestamp_ms: the Kafka record timestamp, epoch ms: when the Collector sent it, from which lateness is judged.
    partition: of the topic for topic_kind; None leaves the choice to the player (round robin).
    """

    topic_kind: SignalType
    value: bytes
    timestamp_ms: int
    partition: int | None = None
