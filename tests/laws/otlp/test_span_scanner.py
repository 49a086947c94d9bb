"""Laws of the wire scanner: it equals upb where upb reads, and elsewhere rejects or is lenient in a stated way.

The scanner reads less than upb: resources, ids, names, kinds, times, status codes, exceptions. So it accepts some bytes
that upb refuses, but only if the fault is inside a field that it skips: invalid UTF-8 in a string other than the name
that counts; a broken or too deep message in attributes, other events, links, scope or status message; the same in an
unread attribute of an exception, whose levels count from the event on. `check_scan` verifies this for each message.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.spans import SpanColumns
from tests.support.otlp_forms import check_scan, deep_value, disordered, otlp_json, request_of, same, sized, varint
from tests.support.otlp_reference import ReferenceDecoder
from tests.support.otlp_strategies import names, requests, spans
from udfs.otlp.decoder import SpanDecoder

SCANNER = SpanDecoder()
REFERENCE = ReferenceDecoder()


def check(data: bytes) -> None:
    check_scan(data, SCANNER, REFERENCE)


@given(requests)
@settings(deadline=None)
def test_scan_equals_upb_on_what_a_serialiser_writes(request: ExportTraceServiceRequest) -> None:
    data = request.SerializeToString()
    assert isinstance(REFERENCE.decode(data), SpanColumns)
    check(data)


@given(requests, st.randoms(use_true_random=True))
@settings(deadline=None)
def test_scan_equals_upb_in_any_field_order_with_unknown_fields_overlong_varints_and_split_messages(
    request: ExportTraceServiceRequest, random: Random
) -> None:
    data = disordered(request.SerializeToString(), request.DESCRIPTOR, random)
    assert isinstance(REFERENCE.decode(data), SpanColumns)
    check(data)


@given(spans, spans)
@settings(deadline=None)
def test_the_last_of_a_repeated_field_wins_and_status_merges(first: Span, second: Span) -> None:
    check(request_of(first.SerializeToString() + second.SerializeToString()))


@given(requests, st.booleans())
@settings(deadline=None)
def test_json_equals_protobuf(request: ExportTraceServiceRequest, enums_as_numbers: bool) -> None:
    from_proto = SCANNER.decode(request.SerializeToString())
    from_json = SCANNER.decode(otlp_json(request, enums_as_numbers=enums_as_numbers))
    assert isinstance(from_json, SpanColumns)
    assert isinstance(from_proto, SpanColumns)
    assert same(from_json, from_proto)


EVENT = sized(2, b"exception")
TYPED = sized(3, sized(1, b"exception.type") + sized(2, sized(1, b"Timeout")))


def a_full_message() -> bytes:
    """Return a message with one field of each kind, small enough to damage every byte of it."""
    span = Span(trace_id=bytes(range(16)), span_id=b"12345678", parent_span_id=b"87654321", name="GET /é")
    span.kind = Span.SPAN_KIND_SERVER
    span.start_time_unix_nano, span.end_time_unix_nano = 2**63 + 5, 2**64 - 1
    span.status.code, span.status.message = Status.STATUS_CODE_ERROR, "no"
    span.attributes.add(key="k").value.array_value.values.add(int_value=300)
    span.events.add(name="e").attributes.add(key="k").value.kvlist_value.values.add(key="x")
    exception = span.events.add(name="exception", time_unix_nano=7)
    exception.attributes.add(key="exception.type").value.string_value = "é"
    exception.attributes.add(key="k").value.array_value.values.add(int_value=300)
    span.links.add(trace_id=bytes(16))
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="shop"))])
    group = b"\x9b\x01\x08\x07\x9b\x01\x9c\x01\x9c\x01"  # field 19, a group in a group
    return request_of(span.SerializeToString() + group, b"", resource=resource.SerializeToString()) + group


def test_a_message_cut_anywhere_is_read_as_upb_reads_it() -> None:
    data = a_full_message()
    for stop in range(1, len(data)):
        check(data[:stop])


def test_a_message_with_any_one_bit_flipped_is_read_as_upb_reads_it() -> None:
    data = a_full_message()
    for position in range(len(data)):
        for bit in range(8):
            check(data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :])


@given(st.binary(min_size=1, max_size=64))
@settings(deadline=None)
def test_random_bytes_are_read_as_upb_reads_them(data: bytes) -> None:
    for whole in (data, sized(1, data), sized(1, sized(2, data)), request_of(data), request_of(sized(15, data))):
        check(whole)
    for event in (data, EVENT + data, data + EVENT, EVENT + sized(3, data)):
        check(request_of(sized(11, event)))


@given(requests, st.randoms(use_true_random=True))
@settings(deadline=None)
def test_damaged_messages_are_read_as_upb_reads_them(request: ExportTraceServiceRequest, random: Random) -> None:
    data = bytearray(disordered(request.SerializeToString(), request.DESCRIPTOR, random))
    for _ in range(random.randrange(1, 4)):
        position = random.randrange(len(data))
        match random.randrange(3):
            case 0:
                data[position] = random.randrange(256)
            case 1:
                data.insert(position, random.choice((0, 1, 0x7F, 0x80, 0xFF)))
            case _:
                del data[position : position + random.randrange(1, 4)]
        data = data or bytearray(1)
    check(bytes(data))


def varint_cases() -> list[Any]:
    """Return spans at the edges of the encoding, each with its name."""
    return [
        pytest.param(b"\x30" + b"\xff" * 9 + b"\x01", id="a varint of 64 bits"),
        pytest.param(b"\x30\x82" + b"\x80" * 8 + b"\x7e", id="a varint of 10 bytes with bits above the 64th"),
        pytest.param(b"\x30" + b"\xff" * 10 + b"\x01", id="a varint of 11 bytes"),
        pytest.param(b"\x30\x82\x80\x80\x80\x10", id="a kind of 2**32 + 2"),
        pytest.param(b"\x7a\x06\x18\x82\x80\x80\x80\x10", id="a status code of 2**32 + 2"),
        pytest.param(b"\x7a\x02\x18\x02\x7a\x02\x12\x00", id="a status without code after one with"),
        pytest.param(b"\xb0\x80\x80\x80\x00\x02", id="a tag of 5 bytes"),
        pytest.param(b"\xb0\x80\x80\x80\x80\x00\x02", id="a tag of 6 bytes"),
        pytest.param(b"\xb0\x80\x80\x80\x10\x01", id="a tag above 32 bits"),
        pytest.param(b"\x00\x01", id="field number 0"),
        pytest.param(b"\x2a\x81\x80\x80\x80\x00a", id="a length of 5 bytes"),
        pytest.param(b"\x2a\x81" + b"\x80" * 8 + b"\x00a", id="a length of 10 bytes"),
        pytest.param(b"\x2a\x81\x80\x80\x80\x10a", id="a length of 2**32 + 1"),
        pytest.param(b"\x2a\xff\xff\xff\xff\x0f", id="a length of 2**32 - 1"),
        pytest.param(b"\x28\x01", id="a name that is a varint"),
        pytest.param(b"\x3a\x01\x00", id="a start that is a string"),
        pytest.param(b"\x38\x05\x41" + b"\x07" * 8, id="a start that is a varint, before an end"),
        pytest.param(b"\x39\x00\x00", id="a start cut short by the span's end"),
        pytest.param(b"\x2b\x2c", id="a name that is a group"),
        pytest.param(b"\x9b\x01\xa4\x01", id="a group closed under another number"),
        pytest.param(b"\x9b\x01", id="a group that is never closed"),
        pytest.param(b"\x9c\x01", id="a group that is closed and was never open"),
        pytest.param(b"\x9b\x01\x00\x00\x9c\x01", id="field number 0 in a group"),
        pytest.param(b"\x36\x01", id="wire type 6"),
        pytest.param(b"\x2a\x01\xff", id="a name that is not UTF-8"),
        pytest.param(b"\x2a\x03\xed\xa0\x80", id="a name that is a surrogate"),
        pytest.param(b"\x2a\x01\xff\x2a\x01a", id="a name that is not UTF-8 before one that is"),
        pytest.param(b"\x0a\x08abcdefgh\x12\x10" + b"x" * 16, id="ids with their lengths exchanged"),
    ]


@pytest.mark.parametrize("span", varint_cases())
def test_the_edges_of_the_encoding_are_read_as_upb_reads_them(span: bytes) -> None:
    check(request_of(span))
    # A following span that is long enough to supply the bytes that a cut field lacks.
    check(request_of(b"\x30\x03" + span, sized(5, b"b" * 40)))


def event_cases() -> list[Any]:
    """Return fields of an event at the edges of the encoding, and the number of exceptions that are read from it."""
    deep = sized(3, sized(1, b"exception.message") + sized(2, deep_value(60)))
    return [
        pytest.param(EVENT + TYPED, 1, id="an exception"),
        pytest.param(TYPED + b"\x09" + b"\x07" * 8 + EVENT, 1, id="its name last"),
        pytest.param(sized(2, b"e") + EVENT, 1, id="the last of two names is exception"),
        pytest.param(EVENT + sized(2, b"e"), 0, id="the last of two names is another"),
        pytest.param(EVENT + sized(2, b""), 0, id="the last of two names is empty"),
        pytest.param(sized(2, b"exceptioN"), 0, id="another ninth letter"),
        pytest.param(sized(2, b"exceptions"), 0, id="ten letters"),
        pytest.param(b"", 0, id="nothing at all"),
        pytest.param(b"\x92\x80\x00\x89\x80\x00exception", 1, id="overlong tag and length"),
        pytest.param(EVENT + b"\x11" + b"\x07" * 8, 1, id="a second name that is a fixed64"),
        pytest.param(EVENT + b"\x0a\x01\x05", 1, id="a time that is a string"),
        pytest.param(EVENT + TYPED + b"\x9b\x01\x9c\x01", 1, id="a group"),
        pytest.param(EVENT + sized(2, b"\xff") + EVENT, 1, id="an earlier name that is not UTF-8"),
        pytest.param(EVENT + sized(3, sized(1, b"\xff")), 1, id="an attribute's name that is not UTF-8"),
        pytest.param(EVENT + b"\x1a\x05ab", None, id="an attribute cut short by the event's end"),
        pytest.param(EVENT + sized(3, b"\x0a\x05ab"), None, id="an attribute broken inside"),
        pytest.param(b"\x12\x09excepti", None, id="a name cut short by the event's end"),
        pytest.param(EVENT + b"\x09\x00\x00", None, id="a time cut short by the event's end"),
        pytest.param(sized(2, b"e") + b"\x00\x01", None, id="field number 0 in another event"),
        pytest.param(EVENT + deep, None, id="a message deeper than upb reads"),
        pytest.param(EVENT + deep.replace(b"exception.message", b"exception.messagE"), None, id="as deep, unread"),
    ]


@pytest.mark.parametrize(("event", "exceptions"), event_cases())
def test_exceptions_are_read_and_refused_as_upb_does(event: bytes, exceptions: int | None) -> None:
    neighbours = sized(5, b"b" * 40), sized(11, EVENT)
    data = request_of(sized(11, event), *neighbours)
    check(data)
    found, expected = SCANNER.decode(data), REFERENCE.decode(data)
    if exceptions is None:
        assert isinstance(found, Rejected)
        assert isinstance(expected, Rejected)
        assert found.reason == expected.reason
    else:
        assert isinstance(found, SpanColumns)
        assert [exception.span for exception in found.exceptions] == [0] * exceptions + [2]


@pytest.mark.parametrize(
    ("depth", "reason"), [(24, ""), (25, "too_deep"), (48, "too_deep"), (50, "malformed_protobuf")]
)
def test_the_message_of_an_exception_nests_as_deep_as_any_value(depth: int, reason: str) -> None:
    data = request_of(sized(11, EVENT + sized(3, sized(1, b"exception.message") + sized(2, deep_value(depth)))))
    check(data)
    found = SCANNER.decode(data)
    assert (found.reason if isinstance(found, Rejected) else "") == reason


@pytest.mark.parametrize(("depth", "reason"), [(24, ""), (46, ""), (48, ""), (50, "malformed_protobuf")])
def test_an_unread_attribute_of_an_exception_nests_as_deep_as_protobuf_reads(depth: int, reason: str) -> None:
    data = request_of(sized(11, EVENT + sized(3, sized(1, b"k") + sized(2, deep_value(depth)))))
    check(data)
    found = SCANNER.decode(data)
    assert (found.reason if isinstance(found, Rejected) else "") == reason


@given(spans)
@settings(deadline=None)
def test_the_first_eight_exceptions_of_each_span_are_read(span: Span) -> None:
    named = [index for index, event in enumerate(span.events) if event.name == "exception"]
    span.events.insert(0, Span.Event(name="exception", time_unix_nano=3))
    written = span.SerializeToString()
    found = SCANNER.decode(request_of(written, b"", written))
    assert isinstance(found, SpanColumns)
    each = min(8, 1 + len(named))
    assert [exception.span for exception in found.exceptions] == [0] * each + [2] * each
    check(request_of(written, b"", written))
    assert found.exceptions_beyond == 2 * (1 + len(named) - each)


def test_two_resource_fields_that_are_whole_only_when_joined_are_rejected() -> None:
    tag, value = b"\x30", b"\x07"
    check(sized(1, sized(1, tag) + sized(1, value)))
    assert isinstance(SCANNER.decode(sized(1, sized(1, tag) + sized(1, value))), Rejected)
    assert isinstance(SCANNER.decode(sized(1, sized(1, tag + value))), SpanColumns)


def nested_groups(depth: int) -> bytes:
    return b"\x9b\x01" * depth + b"\x9c\x01" * depth


@pytest.mark.parametrize(
    ("depth", "within"),
    [(97, request_of), (98, request_of), (100, lambda group: group), (101, lambda group: group)],
)
def test_groups_are_skipped_as_deep_as_upb_skips_them(depth: int, within: Callable[[bytes], bytes]) -> None:
    check(within(nested_groups(depth)) + request_of(b"\x2a\x01a"))


def test_groups_deeper_than_upb_ever_reads_are_rejected() -> None:
    found = SCANNER.decode(request_of(nested_groups(100_000)))
    assert isinstance(found, Rejected)
    assert found.reason == "malformed_protobuf"


@given(st.lists(names, min_size=1, max_size=200))
@settings(deadline=None)
def test_names_are_numbered_by_first_appearance_and_never_merge(drawn: list[str]) -> None:
    columns = SCANNER.decode(request_of(*(sized(5, name.encode()) for name in drawn)))
    assert isinstance(columns, SpanColumns)
    assert columns.names == tuple(dict.fromkeys(drawn))
    assert [columns.names[i] for i in columns.name] == drawn


def test_a_length_beyond_its_message_is_rejected_at_every_level() -> None:
    for number in (1, 2, 2, 5):
        data = varint(number << 3 | 2) + b"\x05abc"
        for level in range(4):
            whole = data
            for outer in (2, 2, 1)[3 - level :]:
                whole = sized(outer, whole)
            check(whole)
