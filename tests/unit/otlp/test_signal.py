"""The signal of a request is determined from its bytes alone: in both encodings, cut off, or with invalid UTF-8."""

import pytest
from google.protobuf.message import Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from state_schemas.telemetry.signals import SignalType
from tests.support.otlp_forms import otlp_json
from udfs.otlp.signal import signal_of

TIME_NS = 1_790_000_000_000_000_000


def logs(*, observed: bool = False) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(severity_text="ERROR")
    record.body.string_value = "the oven is cold"
    setattr(record, "observed_time_unix_nano" if observed else "time_unix_nano", TIME_NS)
    return request


def traces() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="bake", trace_id=b"\x09" * 16)
    span.start_time_unix_nano, span.end_time_unix_nano = TIME_NS - 5, TIME_NS
    return request


def metrics(kind: str) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="oven.heat", unit="1")
    getattr(metric, kind).data_points.add(time_unix_nano=TIME_NS)
    return request


REQUESTS = [
    pytest.param("logs", logs(), id="logs"),
    pytest.param("logs", logs(observed=True), id="logs with an observed time"),
    pytest.param("traces", traces(), id="traces"),
    *(
        pytest.param("metrics", metrics(kind), id=kind)
        for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary")
    ),
]


@pytest.mark.parametrize(("signal", "request_"), REQUESTS)
def test_protobuf_and_json_of_one_request_have_one_signal(signal: SignalType, request_: Message) -> None:
    assert signal_of(request_.SerializeToString()) == signal
    assert signal_of(otlp_json(request_)) == signal


@pytest.mark.parametrize(("signal", "data"), [("logs", logs()), ("traces", traces())])
def test_a_record_that_is_cut_off_behind_its_times_keeps_its_signal(signal: SignalType, data: Message) -> None:
    assert signal_of(data.SerializeToString()[:-1]) == signal


def test_a_name_that_is_no_utf8_hides_no_span() -> None:
    assert signal_of(traces().SerializeToString().replace(b"bake", b"b\xe4ck")) == "traces"


def test_the_name_of_another_request_inside_a_log_line_counts_for_nothing() -> None:
    request = logs()
    request.resource_logs[0].scope_logs[0].log_records[0].body.string_value = '{"resourceSpans": []}'
    assert signal_of(request.SerializeToString()) == "logs"
    assert signal_of(otlp_json(request)) == "logs"


@pytest.mark.parametrize("data", [b"", b"{}", b"plain text", b"\x0a\xff", b"\x0a" * 40, b"\x1f\x8b\x08\x00", b"[1]"])
def test_bytes_that_name_no_signal_are_taken_for_logs(data: bytes) -> None:
    assert signal_of(data) == "logs"
