"""Laws of attributes of spans: those of some names, read from the bytes, are those that protobuf's own parser reads."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from state_schemas.telemetry.spans import SpanColumns
from tests.support.otlp_forms import deep_value, disordered, otlp_json, request_of, sized
from tests.support.otlp_strategies import requests, values
from udfs.otlp.decoder import AskedAttributes, Records, SpanDecoder, decode_logs
from udfs.otlp.resource import VALUE_CHARS_MAX
from udfs.otlp.span_attributes import AttributeReader

NAMES = ("host.name", "http.method", "service.name")
READER = AttributeReader(NAMES, 24)
DECODER = SpanDecoder(asked=AskedAttributes(span=NAMES))

Found = list[dict[str, str]]


def read(data: bytes, reader: AttributeReader = READER) -> Found:
    """Return the attributes of each span that are not empty."""
    spans = DECODER.decode(data)
    assert isinstance(spans, SpanColumns)
    count = len(reader.names)
    rows, names = np.divmod(np.arange(len(spans.name) * count), count)
    found = reader.read(spans.encoded, rows, names)
    texts = [found.texts[number] if number >= 0 else "" for number in found.numbers.tolist()]
    listed = [dict(zip(reader.names, texts[row * count :], strict=False)) for row in range(len(spans.name))]
    return [{name: text for name, text in of_span.items() if text} for of_span in listed]


def as_log(pairs: Sequence[KeyValue]) -> dict[str, str]:
    """Return the attributes, of several with one name the last, as those of a log record are decoded."""
    request = ExportLogsServiceRequest()
    last = {pair.key: pair for pair in pairs if pair.key in NAMES}
    request.resource_logs.add().scope_logs.add().log_records.add(attributes=last.values())
    logs = decode_logs(request.SerializeToString())
    assert isinstance(logs, Records)
    return {name: text for name, text in logs.records[0].attributes if text}


def expected(data: bytes) -> Found:
    groups = ExportTraceServiceRequest.FromString(data).resource_spans
    return [as_log(span.attributes) for group in groups for scope in group.scope_spans for span in scope.spans]


@given(requests, st.randoms(use_true_random=True))
@settings(deadline=None)
def test_attributes_are_those_that_protobuf_reads_in_any_order_of_fields(
    request: ExportTraceServiceRequest, random: Random
) -> None:
    data = request.SerializeToString()
    assert read(data) == expected(data)
    data = disordered(data, request.DESCRIPTOR, random)
    assert read(data) == expected(data)


@given(
    st.lists(st.lists(st.builds(KeyValue, key=st.sampled_from((*NAMES, "x")), value=values), max_size=5), max_size=4)
)
@settings(deadline=None)
def test_json_gives_the_attributes_of_protobuf(spans: list[list[KeyValue]]) -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for attributes in spans:
        scope.spans.add(name="GET /", attributes=attributes)
    data = request.SerializeToString()
    assert read(data) == expected(data) == read(otlp_json(request))


def pair(key: bytes, value: bytes) -> bytes:
    return sized(9, sized(1, key) + sized(2, value))


GOOD = pair(b"host.name", sized(1, b"web-1"))


@pytest.mark.parametrize(
    ("attribute", "found"),
    [
        pytest.param(sized(9, b"\x0a\x0bhttp.method\x12\x05ab"), None, id="cut short"),
        pytest.param(sized(9, sized(1, b"http.method") + b"\x00"), None, id="field number 0"),
        pytest.param(sized(9, b""), None, id="empty"),
        pytest.param(sized(9, sized(2, sized(1, b"GET"))), None, id="without a key"),
        pytest.param(sized(9, sized(1, b"http.method")), None, id="without a value"),
        pytest.param(b"\x48\x05", None, id="a varint"),
        pytest.param(pair(b"http.method", b"\x0a\x05ab"), None, id="a broken value"),
        pytest.param(pair(b"http.method", sized(1, b"G\xffT")), "G\ufffdT", id="a value that is not UTF-8"),
        pytest.param(pair(b"http.method\xff", sized(1, b"GET")), None, id="a key that is not UTF-8"),
        pytest.param(pair(b"http.methods", sized(1, b"GET")), None, id="a longer key"),
        pytest.param(pair(b"http.metho", sized(1, b"GET")), None, id="a shorter key"),
        pytest.param(pair(b"http.method", deep_value(24)), "[" * 24 + '"x"' + "]" * 24, id="24 arrays"),
        pytest.param(pair(b"http.method", deep_value(25)), None, id="25 arrays"),
        pytest.param(pair(b"http.method", deep_value(200)), None, id="200 arrays"),
        pytest.param(
            sized(9, sized(2, sized(1, b"GET")) + sized(1, b"x") + sized(1, b"http.method")),
            "GET",
            id="the value first, and the last of two keys",
        ),
        pytest.param(
            pair(b"http.method", sized(1, b"POST")) + pair(b"http.method", sized(1, b"GET")), "GET", id="two of a name"
        ),
        pytest.param(pair(b"http.method", sized(1, b"x" * 5_000)), "x" * VALUE_CHARS_MAX, id="a long value"),
    ],
)
def test_a_broken_attribute_costs_itself_alone(attribute: bytes, found: str | None) -> None:
    name = {} if found is None else {"http.method": found}
    # The span behind it is long enough to supply the bytes that a cut field lacks.
    data = request_of(attribute + GOOD, GOOD + attribute + sized(5, b"b" * 40), GOOD)
    assert read(data) == [{"host.name": "web-1", **name}, {"host.name": "web-1", **name}, {"host.name": "web-1"}]


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_random_bytes_are_an_attribute_or_none(data: bytes) -> None:
    for content in (data, sized(1, b"http.method") + data, sized(1, b"http.method") + sized(2, data)):
        found = read(request_of(sized(9, content) + GOOD))
        assert [sorted(of_span)[0] for of_span in found] == ["host.name"]


@pytest.mark.parametrize(
    ("attribute", "found"),
    [
        ('{"key": "http.method", "value": {"intValue": "x"}}', None),
        ('{"key": "http.method", "value": {"intValue": "503"}}', "503"),
        ('{"key": "http.method", "value": {"bytesValue": "!"}}', None),
        ('{"key": "http.method", "value": [1]}', None),
        ('{"key": 5}', None),
        ("null", None),
        ("7", None),
        ('{"key": "http.method", "value": {"stringValue": "G\xffT"}}', "G\ufffdT"),
        ('{"key": "http.method", "value": {"arrayValue": {"values": [{"doubleValue": "NaN"}, {}]}}}', '["NaN",null]'),
        ('{"key": "http.method", "value": ' + '{"arrayValue":{"values":[' * 60 + "]}}" * 60 + "}", None),
    ],
)
def test_a_broken_attribute_of_json_costs_itself_alone(attribute: str, found: str | None) -> None:
    good = '{"key": "host.name", "value": {"stringValue": "web-1"}}'
    data = f'{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{{"attributes": [{attribute}, {good}]}}]}}]}}]}}'
    name = {} if found is None else {"http.method": found}
    assert read(data.encode("latin-1")) == [{"host.name": "web-1", **name}]


def test_attributes_of_json_that_are_no_list_are_none() -> None:
    for attributes in ("5", '"x"', "null", "{}", "[]"):
        data = f'{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{{"attributes": {attributes}}}]}}]}}]}}'
        assert read(data.encode()) == [{}]


def test_what_no_name_asks_for_is_not_translated() -> None:
    request = ExportTraceServiceRequest()
    span = Span(name="GET /", attributes=[KeyValue(key="http.method", value=AnyValue(string_value="GET"))])
    request.resource_spans.add().scope_spans.add(spans=[span])
    spans = SpanDecoder().decode(otlp_json(request))
    assert isinstance(spans, SpanColumns)
    assert b"http.method" not in spans.encoded.data
