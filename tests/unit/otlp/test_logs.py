"""Decoding log requests: each field, the texts of bodies and attributes, and JSON equal to protobuf."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_ERROR, ResourceLogs, ScopeLogs
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as ProtoLogRecord

from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.resource import Resource
from tests.support.otlp_forms import deep_json, deep_value, otlp_json, sized
from tests.support.otlp_strategies import attributes, ids, resources, text, uint32, uint64, values
from udfs.otlp.decoder import DecodeSettings, Records, decode_logs

logs = st.builds(
    ProtoLogRecord,
    time_unix_nano=st.just(0) | uint64,
    observed_time_unix_nano=uint64,
    severity_number=st.integers(0, 30),
    severity_text=text,
    body=st.none() | values,
    attributes=attributes,
    dropped_attributes_count=uint32,
    flags=uint32,
    trace_id=ids(16),
    span_id=ids(8),
    event_name=text,
)
requests = st.builds(
    ExportLogsServiceRequest,
    resource_logs=st.lists(
        st.builds(
            ResourceLogs,
            resource=st.none() | resources,
            scope_logs=st.lists(st.builds(ScopeLogs, log_records=st.lists(logs, max_size=3)), max_size=2),
        ),
        min_size=1,
        max_size=2,
    ),
)


def decoded(data: bytes) -> tuple[LogRecord, ...]:
    found = decode_logs(data)
    assert isinstance(found, Records), found
    return found.records


def request_with(record: ProtoLogRecord) -> ExportLogsServiceRequest:
    return ExportLogsServiceRequest(resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[record])])])


def test_a_log_record_is_decoded_field_by_field() -> None:
    record = ProtoLogRecord(
        time_unix_nano=5,
        observed_time_unix_nano=6,
        severity_number=SEVERITY_NUMBER_ERROR,
        severity_text="ERROR",
        body=AnyValue(string_value="card refused"),
        attributes=[KeyValue(key="http.method", value=AnyValue(string_value="GET"))],
        trace_id=b"\xab" * 16,
        span_id=b"\xcd" * 8,
        event_name="payment.refused",
    )
    expected = LogRecord(
        resource=Resource("default", "unknown_service", "unknown_host"),
        time_ns=5,
        severity_number=17,
        severity_text="ERROR",
        body="card refused",
        event_name="payment.refused",
        attributes=(("http.method", "GET"),),
        trace_id="ab" * 16,
    )
    assert decoded(request_with(record).SerializeToString()) == (expected,)
    assert decoded(otlp_json(request_with(record))) == (expected,)


def test_the_observed_time_stands_in_for_a_missing_time() -> None:
    (record,) = decoded(request_with(ProtoLogRecord(observed_time_unix_nano=6)).SerializeToString())
    assert record.time_ns == 6


@pytest.mark.parametrize("trace_id", [b"", bytes(16), b"\x01" * 15, b"\x01" * 17])
def test_an_id_of_zeros_or_of_another_length_is_empty(trace_id: bytes) -> None:
    assert decoded(request_with(ProtoLogRecord(trace_id=trace_id)).SerializeToString())[0].trace_id == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (AnyValue(), ""),
        (AnyValue(string_value=""), ""),
        (AnyValue(string_value='a "b"'), 'a "b"'),
        (AnyValue(bool_value=True), "true"),
        (AnyValue(int_value=-(2**63)), "-9223372036854775808"),
        (AnyValue(double_value=0.5), "0.5"),
        (AnyValue(double_value=3), "3.0"),
        (AnyValue(double_value=float("nan")), "NaN"),
        (AnyValue(double_value=float("-inf")), "-Infinity"),
        (AnyValue(bytes_value=b"\x00\xff"), "00ff"),
        (AnyValue(array_value=ArrayValue()), "[]"),
        (AnyValue(array_value=ArrayValue(values=[AnyValue(), AnyValue(bytes_value=b"\x01")])), '[null,"01"]'),
        (AnyValue(array_value=ArrayValue(values=[AnyValue(double_value=float("inf"))])), '["Infinity"]'),
        (
            AnyValue(
                kvlist_value=KeyValueList(
                    values=[
                        KeyValue(key="z", value=AnyValue(string_value="é")),
                        KeyValue(key="a", value=AnyValue(kvlist_value=KeyValueList())),
                    ]
                )
            ),
            '{"a":{},"z":"é"}',
        ),
    ],
)
def test_bodies_and_attributes_are_texts(value: AnyValue, expected: str) -> None:
    request = request_with(ProtoLogRecord(body=value, attributes=[KeyValue(key="k", value=value)]))
    for data in (request.SerializeToString(), otlp_json(request)):
        (record,) = decoded(data)
        assert (record.body, record.attributes) == (expected, (("k", expected),))


def test_attributes_are_sorted_and_the_greatest_value_of_a_repeated_name_stays() -> None:
    pairs = [("z", "1"), ("m", "GET"), ("m", "PUT"), ("http.method", "GET"), ("a", "2")]
    for order in (pairs, pairs[::-1]):
        record = ProtoLogRecord(attributes=[KeyValue(key=k, value=AnyValue(string_value=v)) for k, v in order])
        found = decoded(request_with(record).SerializeToString())[0].attributes
        assert found == (("a", "2"), ("http.method", "GET"), ("m", "PUT"), ("z", "1"))


@given(requests, st.booleans())
@settings(deadline=None)
def test_json_equals_protobuf(request: ExportLogsServiceRequest, enums_as_numbers: bool) -> None:
    assert decoded(otlp_json(request, enums_as_numbers=enums_as_numbers)) == decoded(request.SerializeToString())


def test_numbers_and_names_of_json_are_read_in_each_spelling() -> None:
    record = {
        "timeUnixNano": 7,
        "severityNumber": "SEVERITY_NUMBER_WARN2",
        "body": {"doubleValue": "NaN"},
        "attributes": [{"key": "n", "value": {"intValue": 5}}, {"key": "b", "value": {"bytesValue": "_-8"}}, {}],
    }
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record, {"severityNumber": 9, "body": None}]}]}]}
    first, second = decoded(json.dumps(document).encode())
    assert (first.time_ns, first.severity_number, first.body) == (7, 14, "NaN")
    assert first.attributes == (("", ""), ("b", "ffef"), ("n", "5"))
    assert (second.time_ns, second.severity_number, second.body) == (0, 9, "")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (b"\x0a\x05ab", "malformed_protobuf"),
        (b"{]", "malformed_json"),
        (b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":4294967296}]}]}]}', "malformed_json"),
        (b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"doubleValue":"1e999"}}]}]}]}', "malformed_json"),
        (
            b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"intValue":"9223372036854775808"}}]}]}]}',
            "malformed_json",
        ),
        (b"\x0a" + b"x" * 100, "too_large"),
    ],
)
def test_bytes_that_are_no_request_are_rejected(value: bytes, reason: str) -> None:
    found = decode_logs(value, DecodeSettings(message_bytes_max=100))
    assert isinstance(found, Rejected)
    assert found.reason == reason


@pytest.mark.parametrize(
    ("depth", "reasons"),
    [
        (24, ("", "")),
        (25, ("too_deep", "too_deep")),
        (45, ("too_deep", "too_deep")),
        (200, ("malformed_protobuf", "too_deep")),
        (10_000, ("malformed_protobuf", "too_deep")),
    ],
)
def test_bodies_nest_as_deep_as_allowed_and_no_deeper(depth: int, reasons: tuple[str, str]) -> None:
    proto = sized(1, sized(2, sized(2, sized(5, deep_value(depth)))))
    text_form = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":' + deep_json(depth) + "}]}]}]}"
    found = decode_logs(proto), decode_logs(text_form.encode())
    assert tuple(result.reason if isinstance(result, Rejected) else "" for result in found) == reasons


@pytest.mark.parametrize("stack", [0, 300])
def test_no_depth_of_a_json_body_raises(stack: int) -> None:
    """msgspec and Python give up at depths that depend on the calls around them."""

    def deeper(calls: int, value: bytes) -> Records[LogRecord] | Rejected:
        return deeper(calls - 1, value) if calls else decode_logs(value)

    for depth in range(20, 420, 3):
        for opening, closing in (
            ('{"arrayValue":{"values":[', "]}}"),
            ('{"kvlistValue":{"values":[{"key":"k","value":', "}]}}"),
        ):
            body = opening * depth + '{"stringValue":"x"}' + closing * depth
            found = deeper(stack, b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":%b}]}]}]}' % body.encode())
            assert isinstance(found, Records if depth <= 24 else Rejected), depth


@given(st.binary(max_size=64), requests, st.randoms(use_true_random=True))
@settings(deadline=None)
def test_no_bytes_raise(junk: bytes, request: ExportLogsServiceRequest, random: object) -> None:
    whole = request.SerializeToString()
    for data in (
        junk,
        b"{" + junk,
        whole[: len(junk)] + junk + whole[len(junk) :],
        otlp_json(request)[: len(junk) * 4],
    ):
        assert isinstance(decode_logs(data), Records | Rejected)
