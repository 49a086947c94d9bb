"""Forms of OTLP for tests: JSON, unusual but valid wire bytes, and only the fields that span columns hold."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.spans import SpanColumns
from udfs.otlp.decoder import SpanDecoder
from udfs.otlp.protobuf import EXCEPTION_ATTRIBUTES
from udfs.otlp.repair import repair_protobuf

ID_FIELDS = ("traceId", "spanId", "parentSpanId")


def same(left: SpanColumns, right: SpanColumns) -> bool:
    """Return whether two decodings are equal element by element, with the same types and sizes of arrays.

    The number of repaired texts is not compared: the scanner repairs only those that it reads. Nor are the bytes.
    """
    plain = ("resources", "names", "exceptions", "exceptions_beyond")
    return all(getattr(left, name) == getattr(right, name) for name in plain) and all(
        _same_array(getattr(left, name), getattr(right, name))
        for name in SpanColumns.__struct_fields__
        if name not in (*plain, "texts_repaired", "encoded")
    )


def _same_array(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and bool(np.array_equal(left, right))


def each_id(node: Any, change: Callable[[str], str]) -> Any:
    """Rewrite the ids inside a parsed OTLP/JSON document."""
    if isinstance(node, list):
        return [each_id(element, change) for element in node]
    if isinstance(node, dict):
        return {key: change(value) if key in ID_FIELDS else each_id(value, change) for key, value in node.items()}
    return node


def otlp_json(message: Message, *, enums_as_numbers: bool = True) -> bytes:
    """Write a request as OTLP/JSON: protobuf's JSON mapping with hexadecimal ids."""
    document = MessageToDict(message, use_integers_for_enums=enums_as_numbers)
    return json.dumps(each_id(document, lambda text: b64decode(text).hex())).encode()


def with_base64_ids(document: Any) -> Any:
    """Return the document with base64 ids instead of OTLP's hexadecimal ones, for protobuf's own JSON parser."""
    return each_id(document, lambda text: b64encode(bytes.fromhex(text)).decode())


def varint(value: int, size_bytes: int = 1) -> bytes:
    """Write a varint, overlong up to size_bytes."""
    out = bytearray()
    while value > 0x7F or len(out) + 1 < size_bytes:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def sized(field: int, content: bytes) -> bytes:
    """Write a length-delimited field."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def request_of(*spans: bytes, resource: bytes = b"") -> bytes:
    """Write a trace request of one resource from the bytes of its spans."""
    scope = b"".join(sized(2, span) for span in spans)
    return sized(1, sized(1, resource) + sized(2, scope))


def deep_value(depth: int) -> bytes:
    """Write an AnyValue of `depth` nested arrays."""
    value = sized(1, b"x")
    for _ in range(depth):
        value = sized(5, sized(1, value))
    return value


def deep_json(depth: int) -> str:
    return '{"arrayValue":{"values":[' * depth + '{"stringValue":"x"}' + "]}}" * depth


class NotWire(Exception):
    """Bytes that do not follow the protobuf encoding."""


def split_fields(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Split a message into fields: tag, unchanged bytes of the value, content (length-delimited fields only)."""
    pos = 0
    while pos < len(data):
        tag, pos = _tag(data, pos)
        stop, content = _value(data, pos, tag)
        yield tag, data[pos:stop], content
        pos = stop


def _tag(data: bytes, pos: int) -> tuple[int, int]:
    tag, after = _read_varint(data, pos)
    if after - pos > 5 or tag >= 2**32 or tag < 8:
        raise NotWire
    return tag, after


def _read_varint(data: bytes, pos: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(data[pos : pos + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, pos + i + 1
    raise NotWire


def _value(data: bytes, pos: int, tag: int) -> tuple[int, bytes]:
    """Return the end of a value, and the content of a length-delimited one."""
    match tag & 7:
        case 0:
            return _read_varint(data, pos)[1], b""
        case 1 | 5:
            stop = pos + (8 if tag & 7 == 1 else 4)
        case 2:
            size, first = _read_varint(data, pos)
            stop = first + size
            if stop <= len(data):
                return stop, data[first:stop]
        case 3:
            return _group_end(data, pos, tag >> 3), b""
        case _:
            raise NotWire
    if stop > len(data):
        raise NotWire
    return stop, b""


def _group_end(data: bytes, pos: int, number: int) -> int:
    open_groups = [number]
    while open_groups:
        tag, pos = _tag(data, pos)
        if tag & 7 == 3:
            open_groups.append(tag >> 3)
        elif tag & 7 == 4:
            if open_groups.pop() != tag >> 3:
                raise NotWire
        else:
            pos, _ = _value(data, pos, tag)
    return pos


def disordered(data: bytes, message: Descriptor, random: Random) -> bytes:
    """Rewrite a message with fields in any order, unknown fields, overlong varints, and sub-messages in parts."""
    written = []
    for tag, value, content in split_fields(data):
        head = varint(tag, random.choice((1, 1, 3, 5)))
        child = message.fields_by_number[tag >> 3].message_type
        if tag & 7 != 2:
            written.append(head + value)
        elif child is None:
            written.append(head + varint(len(content), random.choice((1, 1, 4))) + content)
        else:
            inner = disordered(content, child, random)
            repeated = message.fields_by_number[tag >> 3].label == 3
            parts = [inner] if repeated else _parts(inner, random)
            written += [head + varint(len(part), random.choice((1, 1, 4))) + part for part in parts]
    written += [_unknown(random, 3) for _ in range(random.choice((0, 0, 0, 1, 2)))]
    random.shuffle(written)
    return b"".join(written)


def _parts(data: bytes, random: Random) -> list[bytes]:
    """Cut a message between two fields: both parts together are equivalent to the whole."""
    whole = [varint(tag) + value for tag, value, _ in split_fields(data)]
    cut = random.randrange(len(whole) + 1)
    return [b"".join(whole[:cut]), b"".join(whole[cut:])]


def _unknown(random: Random, depth: int) -> bytes:
    """Write a field that OTLP does not have."""
    number = random.choice((17, 100, 536_870_911))
    wire_type = random.choice((0, 1, 2, 3, 5) if depth else (0, 1, 2, 5))
    head = varint(number << 3 | wire_type)
    match wire_type:
        case 0:
            return head + varint(random.getrandbits(64))
        case 2:
            return head + varint(3) + random.randbytes(3)
        case 3:
            inner = b"".join(_unknown(random, depth - 1) for _ in range(random.randrange(3)))
            return head + inner + varint(number << 3 | 4)
        case _:
            return head + random.randbytes(8 if wire_type == 1 else 4)


def what_scan_reads(data: bytes) -> bytes:
    """Return a trace request with only the fields that span columns hold. Raise NotWire if the rest cannot be skipped.

    If a span has several names, the last one is kept. The first eight exceptions of a span are kept, and each must be
    readable by itself; of further exceptions only the name is kept.
    """
    groups = [_keep_resource_spans(content) for tag, _, content in split_fields(data) if tag == 10]
    return b"".join(sized(1, group) for group in groups)


def _keep_resource_spans(data: bytes) -> bytes:
    kept = []
    for tag, _, content in split_fields(data):
        if tag == 10:
            kept.append(sized(1, content))
        elif tag == 18:
            spans = [_keep_span(span) for inner, _, span in split_fields(content) if inner == 18]
            kept.append(sized(2, b"".join(sized(2, span) for span in spans)))
    return b"".join(kept)


def _keep_span(data: bytes) -> bytes:
    kept, name, exceptions = [], b"", 0
    for tag, value, content in split_fields(data):
        if tag == 90 and _name_of_event(content) == b"exception":
            exceptions += 1
            kept.append(sized(11, _keep_exception(content) if exceptions <= 8 else sized(2, b"exception")))
        elif tag == 42:
            name = sized(5, content)
        elif tag == 122:
            codes = (varint(inner) + number for inner, number, _ in split_fields(content) if inner == 24)
            kept.append(sized(15, b"".join(codes)))
        elif tag in (10, 18, 34, 48, 57, 65):
            kept.append(varint(tag) + value)
    return b"".join(kept) + name


def _keep_exception(data: bytes) -> bytes:
    """Return an event with name, time and the attributes that are read, repaired, else raise DecodeError."""
    event = Span.Event.FromString(repair_protobuf(data, Span.Event.DESCRIPTOR).data)
    read = [pair for pair in event.attributes if pair.key in EXCEPTION_ATTRIBUTES]
    kept = Span.Event(name=event.name, time_unix_nano=event.time_unix_nano, attributes=read)
    return bytes(kept.SerializeToString())


def _name_of_event(data: bytes) -> bytes:
    """Return the last name of an event, b"" if it has none."""
    return next((name for tag, _, name in reversed(list(split_fields(data))) if tag == 18), b"")


def check_scan(data: bytes, scanner: SpanDecoder, reference: SpanDecoder) -> None:
    """Assert that the scanner raises nothing, equals upb, and is no more lenient than stated, on any bytes.

    Texts that are not UTF-8 are repaired for both. Where upb accepts, the columns are equal. Where upb refuses and the
    scanner accepts, upb accepts the fields that the
    scanner reads (without the rest) and gives the same columns: the fault was in a field that columns do not hold.
    """
    found, expected = scanner.decode(data), reference.decode(data)
    if isinstance(expected, SpanColumns):
        assert isinstance(found, SpanColumns), f"upb reads what the scanner refuses: {found}"
        assert same(found, expected), "the scanner and upb read different numbers"
    elif isinstance(found, SpanColumns):
        read = repair_protobuf(what_scan_reads(data), ExportTraceServiceRequest.DESCRIPTOR).data
        rest = ExportTraceServiceRequest.FromString(read).SerializeToString()
        again = reference.decode(rest) if rest else Rejected("empty", "")
        if isinstance(again, SpanColumns):
            assert same(found, again), "the scanner read other numbers than upb reads from the same fields"
        else:
            assert not rest, f"upb refuses the fields that the scanner reads: {again}"
            assert not found.resources, "the scanner returned spans where there are none"
