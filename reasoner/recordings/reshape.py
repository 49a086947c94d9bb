"""Recordings cut into other messages, moved in time, made denser, and written to files."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import zstandard
from google.protobuf.message import Message as ProtoMessage  # type: ignore[import-untyped]  # no py.typed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from reasoner.recordings import otlp_json
from reasoner.recordings.message import Message
from reasoner.recordings.read import sidecar
from state_schemas.telemetry.signals import SignalType


def rechunk(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield one resource per message, as an agent on each pod would send. Lazy.

    Values become protobuf, records stay in order. All parts keep timestamp and partition of their message, so no record
    changes between late and not late.
    """
    for message in messages:
        request = otlp_json.parse(message.topic_kind, message.value)
        for field, resources in request.ListFields():
            for resource in resources:
                part = type(request)(**{field.name: [resource]})
                yield replace(message, value=part.SerializeToString())


def shifted(messages: Iterable[Message], by_ms: int) -> Iterator[Message]:
    """Yield the messages with all times later by by_ms: times of records, events, points and of Kafka. Lazy.

    Times in texts are not changed. Windows then begin elsewhere in the recording. Values become protobuf.
    """
    for message in messages:
        request = otlp_json.parse(message.topic_kind, message.value)
        _shift(request, by_ms * 1_000_000)
        yield replace(message, value=request.SerializeToString(), timestamp_ms=message.timestamp_ms + by_ms)


def _shift(part: ProtoMessage, by_ns: int) -> None:
    for field, value in part.ListFields():
        if field.name.endswith("time_unix_nano"):
            setattr(part, field.name, value + by_ns)
        elif field.message_type is not None and field.name not in ("resource", "scope", "attributes", "body"):
            for inner in (value,) if isinstance(value, ProtoMessage) else value:
                _shift(inner, by_ns)


def denser(messages: Iterable[Message], times: int) -> Iterator[Message]:
    """Yield recorded traces, as protobuf, `times` times as dense: each copy has trace ids of its own.

    Times, names and order stay; the first copy is the recording. About 4 us per span and copy.
    """
    for message in messages:
        for copy in range(times):
            request = otlp_json.parse("traces", message.value)
            assert isinstance(request, ExportTraceServiceRequest), "a message of traces is parsed as traces"
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        changed = int.from_bytes(span.trace_id, "big") ^ copy
                        span.trace_id = changed.to_bytes(len(span.trace_id), "big")
            yield replace(message, value=request.SerializeToString())


def placed(messages: Iterable[Message], partitions: int) -> Iterator[Message]:
    """Yield the messages with a partition: their own, or for each kind the numbers below `partitions` in turn. Lazy.

    Each message needs one, because offsets are part of the evidence.
    """
    counts: Counter[SignalType] = Counter()
    for message in messages:
        if message.partition is None:
            yield replace(message, partition=counts[message.topic_kind] % partitions)
            counts[message.topic_kind] += 1
        else:
            yield message


def dump(messages: Iterable[Message], folder: Path) -> None:
    """Write OTLP/JSON lines from which `recordings.read` returns the same timestamps, partitions and order.

    One file `recording.jsonl.zst`, one line per message. Kafka timestamp and partition are at the start of the line as
    the unknown fields kafkaTimestampUnixMs and kafkaPartition, which OTLP/JSON readers ignore. JSON values are read
    back byte by byte, protobuf values as OTLP/JSON of the same content. The folder is created and must not contain such
    a file. Raises FileExistsError, and ValueError if the timestamps fall. Lazy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    newest_ms = 0
    with zstandard.open(folder / "recording.jsonl.zst", "xb") as file:
        for message in messages:
            if message.timestamp_ms < newest_ms:
                text = f"timestamp {message.timestamp_ms} after {newest_ms}; sort by timestamp_ms first"
                raise ValueError(text)
            newest_ms = message.timestamp_ms
            file.write(_line(message))


def _line(message: Message) -> bytes:
    value = message.value
    if value[:1] != b"{":
        value = otlp_json.dumps(otlp_json.parse(message.topic_kind, value))
    # A pretty-printed value would be many lines.
    elif b"\n" in value:
        value = msgspec.json.format(value, indent=-1)
    return sidecar(message.timestamp_ms, message.partition) + value[1:] + b"\n"
