"""Laws of repair: a text that is not UTF-8 costs its invalid bytes; nothing else of its message is lost or mended."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.spans import SpanColumns
from tests.support.otlp_forms import same
from tests.support.text_twins import MARK, damaged, damaged_json, marked, repaired, valid
from udfs.otlp.decoder import Records, SpanDecoder, decode_logs, decode_metrics
from udfs.otlp.repair import repair_json, repair_protobuf

DECODER = SpanDecoder()
TIME_NS = 1_790_000_000_000_000_000

texts = st.lists(
    st.sampled_from(("a", "cart", " ", '"', "\\", "\n", "é", "\u4e2d", "\U0001f600", MARK)), max_size=5
).map("".join)
values = st.builds(AnyValue, string_value=texts) | st.builds(AnyValue, int_value=st.integers(0, 9))
attributes = st.lists(st.builds(KeyValue, key=texts | st.just("service.name"), value=values), max_size=3)
resources = st.builds(Resource, attributes=attributes)
records = st.builds(LogRecord, time_unix_nano=st.just(TIME_NS), severity_text=texts, body=values, attributes=attributes)
log_requests = st.builds(
    lambda resource, items: ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=resource, scope_logs=[ScopeLogs(log_records=items)])]
    ),
    resources,
    st.lists(records, min_size=1, max_size=4),
)
points = st.builds(NumberDataPoint, time_unix_nano=st.just(TIME_NS), as_int=st.just(1), attributes=attributes)
metric_requests = st.builds(
    lambda resource, name, items: ExportMetricsServiceRequest(
        resource_metrics=[
            ResourceMetrics(
                resource=resource,
                scope_metrics=[ScopeMetrics(metrics=[Metric(name=name, gauge=Gauge(data_points=items))])],
            )
        ]
    ),
    resources,
    texts,
    st.lists(points, min_size=1, max_size=3),
)
events = st.builds(
    lambda kind, message: Span.Event(
        name="exception",
        attributes=[
            KeyValue(key="exception.type", value=AnyValue(string_value=kind)),
            KeyValue(key="exception.message", value=AnyValue(string_value=message)),
        ],
    ),
    texts,
    texts,
)
spans = st.builds(Span, name=texts, end_time_unix_nano=st.just(TIME_NS), events=st.lists(events, max_size=2))
trace_requests = st.builds(
    lambda resource, items: ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=items)])]
    ),
    resources,
    st.lists(spans, min_size=1, max_size=4),
)


@given(log_requests)
@settings(deadline=None)
def test_logs_lose_only_the_invalid_bytes_of_their_texts(request: ExportLogsServiceRequest) -> None:
    expected = decode_logs(repaired(request).SerializeToString())
    assert isinstance(expected, Records)
    assert decode_logs(damaged(request)) == expected._replace(texts_repaired=marked(request))
    assert decode_logs(damaged_json(request)) == expected._replace(texts_repaired=marked(request))


@given(metric_requests)
@settings(deadline=None)
def test_metrics_lose_only_the_invalid_bytes_of_their_texts(request: ExportMetricsServiceRequest) -> None:
    expected = decode_metrics(repaired(request).SerializeToString())
    assert isinstance(expected, Records)
    assert decode_metrics(damaged(request)) == expected._replace(texts_repaired=marked(request))
    assert decode_metrics(damaged_json(request)) == expected._replace(texts_repaired=marked(request))


@given(trace_requests)
@settings(deadline=None)
def test_spans_lose_only_the_invalid_bytes_of_their_texts(request: ExportTraceServiceRequest) -> None:
    """Twice, because the second time the resource comes from the cache."""
    expected = DECODER.decode(repaired(request).SerializeToString())
    assert isinstance(expected, SpanColumns)
    for data in (damaged(request), damaged(request), damaged_json(request)):
        found = DECODER.decode(data)
        assert isinstance(found, SpanColumns)
        assert same(found, expected)
        assert bool(found.texts_repaired) == bool(marked(request))


@given(log_requests, st.integers(0, 300))
@settings(deadline=None)
def test_a_broken_message_is_not_mended(request: ExportLogsServiceRequest, cut: int) -> None:
    """It is refused exactly where the same bytes with letters in place of the invalid ones are refused."""
    size = len(damaged(request))
    data, twin = damaged(request)[: size - cut], valid(request).SerializeToString()[: size - cut]
    assert isinstance(decode_logs(data), Rejected) == isinstance(decode_logs(twin), Rejected)


@given(log_requests)
@settings(deadline=None)
def test_repair_changes_nothing_else(request: ExportLogsServiceRequest) -> None:
    whole = repaired(request).SerializeToString()
    assert repair_protobuf(damaged(request), request.DESCRIPTOR) == (whole, marked(request))
    assert repair_protobuf(whole, request.DESCRIPTOR) == (whole, 0)
    text = damaged_json(repaired(request))
    assert repair_json(text) == (text, 0)


def test_repair_takes_no_more_memory_for_texts_that_lie_deep() -> None:
    """One invalid text inside 40 values that each hold 200 kB: a copy of each level would take 300 MB."""
    value = AnyValue(string_value=MARK)
    for _ in range(40):
        value = AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="a" * 200_000), value]))
    request = ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[LogRecord(body=value)])])]
    )
    data = damaged(request)
    tracemalloc.start()
    found = repair_protobuf(data, request.DESCRIPTOR)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == (repaired(request).SerializeToString(), 1)
    assert peak < 3 * len(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    repair_protobuf(data, ExportLogsServiceRequest.DESCRIPTOR)
    repair_json(data)
    repair_json(b'{"' + data)


@pytest.mark.parametrize(
    ("escape", "text"),
    [
        (r"\ud83d", "\ufffd"),
        (r"x\uDE00y", "x\ufffdy"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\\ud83d \ud83d", "\\ud83d \ufffd"),
        (r"\u00e9\ud83d\n", "\u00e9\ufffd\n"),
    ],
)
def test_half_of_a_pair_of_escapes_costs_its_character(escape: str, text: str) -> None:
    """JavaScript cuts texts inside a character of two escapes."""
    body = (
        '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"%s"}},{"body":{"stringValue":"b"}}]}]}]}'
    )
    found = decode_logs((body % escape).encode())
    assert isinstance(found, Records)
    assert ([record.body for record in found.records], found.texts_repaired) == ([text, "b"], 1)
