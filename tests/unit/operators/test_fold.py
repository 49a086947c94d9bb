"""Records at the limits of event time: which are counted, which are late, and which are activity of their service."""

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from operators.ingest.fold import FOLDS, FoldConfig, Folded
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.signals import SignalType
from tests.support.traffic import LATENESS_MS, MS, START_MS, TIMES

each_signal = pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
OLDEST_MS = START_MS - LATENESS_MS  # of the records that are not late


def request_of(signal: SignalType, at_ms: int) -> bytes:
    """Encode a request with one record whose event time is at_ms."""
    if signal == "traces":
        traces = ExportTraceServiceRequest()
        span = traces.resource_spans.add().scope_spans.add().spans.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8)
        span.start_time_unix_nano = span.end_time_unix_nano = at_ms * MS
        return bytes(traces.SerializeToString())
    if signal == "logs":
        logs = ExportLogsServiceRequest()
        logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=at_ms * MS)
        return bytes(logs.SerializeToString())
    metrics = ExportMetricsServiceRequest()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="queue.length")
    metric.gauge.data_points.add(time_unix_nano=at_ms * MS, as_int=1)
    return bytes(metrics.SerializeToString())


def folded(signal: SignalType, at_ms: int) -> Folded:
    """Fold one record in a message of START_MS."""
    return FOLDS[signal](FoldConfig(TIMES)).fold(request_of(signal, at_ms), KafkaPosition(signal, 0, 7, START_MS))


@each_signal
def test_a_record_is_late_from_one_millisecond_beyond_the_lateness_on(signal: SignalType) -> None:
    assert dict(folded(signal, OLDEST_MS).counts) == {"records_folded_total": 1}
    assert dict(folded(signal, OLDEST_MS - 1).counts) == {"records_folded_total": 1, "records_late_total": 1}


@each_signal
@pytest.mark.parametrize(
    ("reason", "limit_ms", "beyond_ms"),
    [("future", START_MS + TIMES.future_max_ms, 1), ("too_old", START_MS - TIMES.age_max_ms, -1)],
)
def test_a_record_is_rejected_from_one_millisecond_beyond_its_limit_on(
    signal: SignalType, reason: str, limit_ms: int, beyond_ms: int
) -> None:
    assert dict(folded(signal, limit_ms).counts)["records_folded_total"] == 1
    assert dict(folded(signal, limit_ms + beyond_ms).counts) == {
        "records_rejected_total": 1,
        f"rejected_{reason}_total": 1,
    }


@pytest.mark.parametrize("signal", ["logs", "metrics"])
def test_a_late_record_is_no_activity_of_its_service(signal: SignalType) -> None:
    """A Collector that sends its backlog would otherwise end the alarm about a service that has stopped."""
    in_time, late = folded(signal, OLDEST_MS).message, folded(signal, OLDEST_MS - 1).message
    assert in_time is not None
    assert [seen.records for env in in_time.activity for window in env.windows for seen in window.seen] == [1]
    assert late is None or late.activity == ()
