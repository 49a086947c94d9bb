"""Broken and hostile messages, each with the dead letters that the job must write about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kafka import KafkaProducer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from state_schemas.contracts.dead_letter import RejectReason
from state_schemas.telemetry.signals import SignalType
from tests.support.otlp_forms import deep_value, request_of, sized

YEAR_2200_NS = 7_258_118_400_000_000_000
SERVICE = "garbage"


@dataclass(frozen=True)
class Garbage:
    """A broken message.

    value: None for a Kafka record without a value.
    rejected: reason -> rejected records (0: the whole message).
    counted: spans that are valid.
    """

    name: str
    value: bytes | None
    rejected: Mapping[RejectReason, int] = field(default_factory=dict)
    counted: int = 0
    signal: SignalType = "traces"

    @property
    def spans(self) -> int:
        """Number of spans that can be read from the message."""
        return self.counted + sum(self.rejected.values())


@dataclass(frozen=True)
class Sent:
    """A broken message with its position in Kafka."""

    garbage: Garbage
    topic: str
    partition: int
    offset: int


def all_garbage(now_ms: int) -> list[Garbage]:
    """Return one message of each kind. now_ms: the Kafka timestamp that the messages will have."""
    now_ns = now_ms * 1_000_000
    good = _span(now_ns - 5_000_000, now_ns, 1)
    junk = Random("junk").randbytes
    deep = sized(1, b"k") + sized(2, deep_value(10_000))
    return [
        Garbage("random bytes", b"\xff" + junk(500), {"malformed_protobuf": 0}),
        Garbage("random bytes in the logs", b"\xff" + junk(500), {"malformed_protobuf": 0}, signal="logs"),
        Garbage("random bytes in the metrics", b"\xff" + junk(500), {"malformed_protobuf": 0}, signal="metrics"),
        Garbage("cut off", _request(good)[:-3], {"malformed_protobuf": 0}),
        Garbage("broken JSON", b'{"resourceSpans":[', {"malformed_json": 0}),
        Garbage("empty value", b"", {"empty": 0}),
        Garbage("no value", None, {"empty": 0}),
        Garbage("4 MB of junk", b"\xff" + junk(4_000_000), {"malformed_protobuf": 0}),
        Garbage("dated 2200", _request(good, _span(YEAR_2200_NS - 1, YEAR_2200_NS, 2)), {"future": 1}, 1),
        Garbage("dated 0", _request(good, _span(0, 0, 3)), {"no_time": 1}, 1),
        Garbage("end before start", _request(good, _span(now_ns, now_ns - 9, 4)), {"end_before_start": 1}, 1),
        Garbage("the same span thrice", _request(good, good, good), {"duplicate_span": 2}, 1),
        Garbage("10,000 deep in a resource", sized(1, sized(1, sized(1, deep))), {"malformed_protobuf": 0}),
        Garbage("10,000 deep in a span", request_of(good.SerializeToString() + sized(9, deep)), {}, 1),
    ]


def send_garbage(
    bootstrap: str, topics: Mapping[SignalType, str], garbage: Sequence[Garbage], timestamp_ms: int
) -> list[Sent]:
    """Send each message to partition 0 of its topic; return when all are stored."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=8 << 20)
    try:
        futures = [
            producer.send(topics[piece.signal], key=b"k", value=piece.value, partition=0, timestamp_ms=timestamp_ms)
            for piece in garbage
        ]
        stored: list[Any] = [future.get(timeout=60) for future in futures]
    finally:
        producer.close()
    return [Sent(piece, at.topic, at.partition, at.offset) for piece, at in zip(garbage, stored, strict=True)]


def rejections_of(letters: Sequence[Mapping[str, Any]], sent: Sent) -> dict[str, int]:
    """Return reason -> records of the dead letters about one message."""
    position = (sent.topic, sent.partition, sent.offset)
    return {
        letter["reason"]: letter["records"]
        for letter in letters
        if (letter["topic"], letter["partition"], letter["offset"]) == position
    }


def _span(start_ns: int, end_ns: int, number: int) -> Span:
    return Span(
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        name="GET /garbage",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=end_ns,
    )


def _request(*spans: Span) -> bytes:
    resource = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    resource.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=SERVICE)))
    value: bytes = ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()
    return value
