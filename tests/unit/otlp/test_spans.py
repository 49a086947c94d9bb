"""Decoding trace requests: an example to check by hand, bounds, and each reason for a rejection."""

import ctypes
import mmap
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import get_args

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from state_schemas.contracts.dead_letter import Rejected, RejectReason
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import SpanColumns
from tests.support.otlp_forms import deep_json, deep_value, otlp_json, request_of, same, sized, varint
from udfs.otlp.decoder import DecodeSettings, SpanDecoder
from udfs.otlp.span_names import hash_range, number_names


def a_request() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for service, names in (("cart", ("GET /cart", "SELECT")), ("payment", ("GET /cart",))):
        group = request.resource_spans.add()
        group.resource.attributes.add(key="service.name").value.string_value = service
        scope = group.scope_spans.add()
        for i, name in enumerate(names):
            span = scope.spans.add(trace_id=b"t" * 16, span_id=b"s" * 7 + bytes([i]), name=name)
            span.kind = Span.SPAN_KIND_SERVER if i == 0 else Span.SPAN_KIND_CLIENT
            span.start_time_unix_nano, span.end_time_unix_nano = 10**18, 10**18 + 7 + i
            span.status.code = Status.STATUS_CODE_ERROR if name == "SELECT" else Status.STATUS_CODE_OK
    return request


def decoded(data: bytes, settings: DecodeSettings | None = None) -> SpanColumns:
    found = SpanDecoder(settings or DecodeSettings()).decode(data)
    assert isinstance(found, SpanColumns), found
    return found


def rejected(data: bytes, settings: DecodeSettings | None = None) -> Rejected:
    found = SpanDecoder(settings or DecodeSettings()).decode(data)
    assert isinstance(found, Rejected)
    return found


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_a_request_becomes_columns(form: str) -> None:
    request = a_request()
    columns = decoded(request.SerializeToString() if form == "protobuf" else otlp_json(request))
    assert columns.resources == (
        Resource("default", "cart", "unknown_host"),
        Resource("default", "payment", "unknown_host"),
    )
    assert columns.names == ("GET /cart", "SELECT")
    assert columns.resource.tolist() == [0, 0, 1]
    assert columns.name.tolist() == [0, 1, 0]
    assert columns.start_ns.tolist() == [10**18] * 3
    assert columns.end_ns.tolist() == [10**18 + 7, 10**18 + 8, 10**18 + 7]
    assert columns.kind.tolist() == [2, 3, 2]
    assert columns.error.tolist() == [False, True, False]
    assert columns.trace_id.tobytes() == b"t" * 48
    assert columns.span_id[1].tobytes() == b"s" * 7 + b"\x01"
    assert not columns.parent_span_id.any()


def test_an_id_of_another_length_is_all_zero() -> None:
    columns = decoded(request_of(sized(1, b"x" * 15) + sized(2, b"y" * 9) + sized(4, b"z" * 8)))
    assert not columns.trace_id.any()
    assert not columns.span_id.any()
    assert columns.parent_span_id.tobytes() == b"z" * 8


@pytest.mark.parametrize("kind", [6, 255, 256 + 2, 2**31, -1])
def test_an_unknown_kind_is_0(kind: int) -> None:
    assert decoded(request_of(b"\x30" + varint(kind % 2**64))).kind.tolist() == [0]


def test_resource_fields_of_one_group_merge() -> None:
    def attribute(key: str, value: str) -> bytes:
        return sized(1, sized(1, key.encode()) + sized(2, sized(1, value.encode())))

    first, second = attribute("service.name", "cart"), attribute("host.name", "h1")
    data = sized(1, sized(1, first) + sized(2, sized(2, b"")) + sized(1, second))
    assert decoded(data).resources == (Resource("default", "cart", "h1"),)


def test_the_arrays_belong_to_the_receiver() -> None:
    decoder = SpanDecoder()
    data = a_request().SerializeToString()
    first, again = decoder.decode(data), decoder.decode(data)
    assert isinstance(first, SpanColumns)
    assert isinstance(again, SpanColumns)
    for array in (first.resource, first.name, first.start_ns, first.end_ns, first.kind, first.trace_id, first.span_id):
        array.fill(9)
    assert same(again, decoded(data))
    assert all(
        array.flags.owndata and array.flags.c_contiguous for array in (again.trace_id, again.span_id, again.start_ns)
    )


def test_decoders_in_threads_do_not_disturb_each_other() -> None:
    messages = [request_of(*(sized(5, b"%d-%d" % (k, i % 50)) + b"\x30\x02" for i in range(2000))) for k in range(4)]
    expected = [decoded(message) for message in messages]

    def disturbed(k: int) -> int:
        decoder = SpanDecoder()
        found = (decoder.decode(messages[k]) for _ in range(100))
        return sum(not (isinstance(columns, SpanColumns) and same(columns, expected[k])) for columns in found)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(disturbed, range(4))) == [0, 0, 0, 0]


def test_the_resource_cache_is_bounded_and_forgetting_changes_nothing() -> None:
    decoder = SpanDecoder(settings=DecodeSettings(resources_cached_max=2))
    parts = [sized(1, sized(1, b"service.name") + sized(2, sized(1, b"s%d" % (i % 5)))) for i in range(20)]
    columns = decoder.decode(b"".join(request_of(b"", resource=part) for part in parts))
    assert isinstance(columns, SpanColumns)
    assert [resource.service for resource in columns.resources] == [f"s{i % 5}" for i in range(20)]
    assert len(decoder._resources) <= 2


def test_names_with_colliding_hashes_stay_apart() -> None:
    slots = 512  # size of the hash table for 200 names: the power of two above 400
    candidates = (b"name-%d" % i for i in range(10**6))
    crowd = list(islice((c for c in candidates if hash_range(np.frombuffer(c, np.uint8), 0, len(c)) % slots == 7), 100))
    names = crowd + crowd[::-1]
    columns = decoded(request_of(*(sized(5, name) for name in names)))
    assert columns.names == tuple(name.decode() for name in crowd)
    assert [columns.names[i].encode() for i in columns.name] == names
    ends = np.cumsum([len(name) for name in names])
    ranges = np.stack([ends - [len(name) for name in names], ends], axis=1)
    _, first_spans = number_names(np.frombuffer(b"".join(names), np.uint8), ranges)
    assert len(first_spans) > len(crowd), "the names did not share a slot: the test proves nothing"


def test_no_read_leaves_the_message() -> None:
    """The message ends where a page without access begins: a read beyond its end would crash the process."""
    script = """
from contextlib import suppress
from udfs.otlp import span_scanner
from udfs.otlp.refused import Refused
from tests.support.otlp_forms import request_of, sized
from tests.unit.otlp.test_spans import a_request, at_the_edge
data = a_request().SerializeToString() + bytes.fromhex("9b010807390102030405060708350102030412026162 9c01")
data += request_of(sized(11, sized(2, b"exception")))
for stop in range(1, len(data) + 1):
    for last in (data[stop - 1], 0xFF, 0x39, 0x35, 0x12, 0x9B):
        with suppress(Refused):
            span_scanner.scan(at_the_edge(data[: stop - 1] + bytes([last])), 1000)
print("alive")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, "alive\n"), ran.stderr


def at_the_edge(data: bytes) -> memoryview:
    """Copy bytes to the end of a page that is followed by one without access."""
    page = mmap.PAGESIZE
    size = -(-len(data) // page) * page
    memory = mmap.mmap(-1, size + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    no_access = 0  # PROT_NONE
    assert libc.mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(page), no_access) == 0
    memory[size - len(data) : size] = data
    return memoryview(memory)[size - len(data) : size]


def test_empty_bytes_are_rejected_as_empty() -> None:
    assert rejected(b"").reason == "empty"


def test_a_message_over_its_bound_is_rejected_before_it_is_read() -> None:
    data = a_request().SerializeToString()
    assert decoded(data, settings=DecodeSettings(message_bytes_max=len(data)))
    assert rejected(data, settings=DecodeSettings(message_bytes_max=len(data) - 1)).reason == "too_large"


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_more_spans_than_the_bound_are_rejected(form: str) -> None:
    request = a_request()
    data = request.SerializeToString() if form == "protobuf" else otlp_json(request)
    assert decoded(data, DecodeSettings(spans_max=3))
    assert rejected(data, DecodeSettings(spans_max=2)).reason == "too_large"


def test_four_megabytes_of_empty_spans_are_decoded() -> None:
    columns = decoded(request_of(*[b""] * 900_000))
    assert len(columns.kind) == 900_000
    assert columns.names == ("",)


def test_values_nest_as_deep_as_allowed() -> None:
    assert decoded(request_of(b"", resource=sized(1, sized(2, deep_value(24))))).resources


@pytest.mark.parametrize(
    ("depth", "reason"),
    [(25, "too_deep"), (48, "too_deep"), (60, "malformed_protobuf"), (10_000, "malformed_protobuf")],
)
def test_protobuf_values_that_nest_too_deep_are_rejected(depth: int, reason: str) -> None:
    assert rejected(request_of(b"", resource=sized(1, sized(2, deep_value(depth))))).reason == reason


@pytest.mark.parametrize("depth", [25, 500, 10_000, 100_000])
def test_json_values_that_nest_too_deep_are_rejected(depth: int) -> None:
    resource = '{"attributes":[{"key":"k","value":' + deep_json(depth) + "}]}"
    assert rejected(b'{"resourceSpans":[{"resource":' + resource.encode() + b"}]}").reason == "too_deep"


def test_the_scanner_steps_over_deep_values_that_it_does_not_need() -> None:
    span = sized(9, sized(1, b"k") + sized(2, deep_value(10_000))) + sized(5, b"name")
    assert decoded(request_of(span)).names == ("name",)


@pytest.mark.parametrize("blank", [b"", b" ", b"\n", b"\r\n\t ", b"\n" * 100])
def test_json_is_known_by_its_first_brace(blank: bytes) -> None:
    assert same(decoded(blank + otlp_json(a_request()) + b"\n"), decoded(otlp_json(a_request())))


def test_a_protobuf_request_whose_length_byte_is_a_brace_is_protobuf() -> None:
    data = next(data for n in range(200) if (data := request_of(sized(5, b"n" * n)))[1:2] == b"{")
    assert decoded(data).kind.tolist() == [0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x05ab", "malformed_protobuf"),
        (b"hello world", "malformed_protobuf"),
        (b"\n{hello", "malformed_protobuf"),
        (b"[]", "malformed_protobuf"),
        (request_of(b"", resource=b"\x0a\x05secret"), "malformed_protobuf"),
        (b"{", "malformed_json"),
        (b'{"resourceSpans":7}', "malformed_json"),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"secret"\xff}]}]}]}', "malformed_json"),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"secret\xff"]}]}]}', "malformed_json"),
        (
            b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"secretsecretsecretsecretsecretse"}]}]}]}',
            "malformed_json",
        ),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"secret"}]}]}]}', "malformed_json"),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":-1}]}]}]}', "malformed_json"),
        (
            b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"endTimeUnixNano":18446744073709551616}]}]}]}',
            "malformed_json",
        ),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"endTimeUnixNano":"1 000"}]}]}]}', "malformed_json"),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":true}]}]}]}', "malformed_json"),
        (
            b'{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":{"bytesValue":"secret!"}}]}}]}',
            "malformed_json",
        ),
        (
            b'{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":{"intValue":"secret"}}]}}]}',
            "malformed_json",
        ),
        (
            b'{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":{"doubleValue":"secret"}}]}}]}',
            "malformed_json",
        ),
    ],
)
def test_bytes_that_are_no_request_are_rejected_with_advice_and_without_payload(data: bytes, reason: str) -> None:
    found = rejected(data)
    assert found.reason == reason
    assert "expected" in found.detail
    assert "check" in found.detail
    assert "secret" not in found.detail


def test_every_reason_used_is_in_the_closed_list() -> None:
    assert {"empty", "too_large", "too_deep", "malformed_protobuf", "malformed_json"} <= set(get_args(RejectReason))


def test_json_is_accepted_in_each_spelling_of_the_protobuf_json_mapping() -> None:
    data = b"""{"resourceSpans": [null_free, {"resource": null, "schemaUrl": "x", "scopeSpans": [{"spans": [
        {"name": null, "kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"}, "traceId": "%s",
         "startTimeUnixNano": 5, "endTimeUnixNano": "18446744073709551615", "new": [{"a": 1}]},
        {"kind": "SPAN_KIND_NEW", "status": null, "traceId": "abc", "spanId": ""}]}]}]}""" % (b"aB" * 16)
    columns = decoded(data.replace(b"null_free", b"{}"))
    assert columns.resource.tolist() == [1, 1]
    assert columns.names == ("",)
    assert columns.kind.tolist() == [3, 0]
    assert columns.error.tolist() == [True, False]
    assert columns.start_ns.tolist() == [5, 0]
    assert columns.end_ns.tolist() == [2**64 - 1, 0]
    assert columns.trace_id.tobytes() == b"\xab" * 16 + bytes(16)


def test_all_faults_of_the_settings_come_in_one_message() -> None:
    with pytest.raises(ValueError, match=r"message_bytes_max is 0, must be 1\.\..*depth_max is 31, must be 1\.\.30"):
        DecodeSettings(message_bytes_max=0, depth_max=31)


def test_numba_is_imported_where_print_is_replaced_as_pyflink_does() -> None:
    script = """
import builtins
class CustomPrint:
    def __init__(self, original): self._print = original
    def print(self, *args, **kwargs): self._print(*args, **kwargs)
CustomPrint.__module__ = "sys"
replaced = builtins.print = CustomPrint(print).print
import udfs.otlp.decoder
assert builtins.print is replaced
print(type(udfs.otlp.decoder.SpanDecoder().decode(b"\\x0a\\x00")).__name__)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, "SpanColumns\n"), ran.stderr


def test_the_scanner_works_where_no_folder_is_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    from udfs.compiled import njit

    def refuse(*_: object, **options: object) -> object:
        if "cache" in options:
            message = "cannot cache function 'f': no locator available for file 'f.py'"
            raise RuntimeError(message)
        return lambda function: function

    monkeypatch.setattr(numba, "njit", refuse)
    assert njit(len)([1, 2]) == 2


def test_a_service_name_that_is_a_number_is_read_as_text() -> None:
    value = AnyValue(int_value=7).SerializeToString()
    resource = sized(1, sized(1, b"service.name") + sized(2, value))
    assert decoded(request_of(b"", resource=resource)).resources[0].service == "7"
