"""Services of one name in two namespaces: two services everywhere, whichever arrives first."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from jobs.graph import stages
from operators.ingest.fold import FoldConfig, LogFold, TraceFold
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import EdgeRow, PatternName, PatternRow, RollupRow
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.spans import KIND_CLIENT, KIND_SERVER
from tests.support.driving import graph_config, run
from tests.support.traffic import MS, START_MS, TIMES, WINDOW_MS
from udfs.insights.ids import insight_id

SLOW_FROM: Final = 40  # window from which `cart` of the namespace `eu` is slow
CALLS: Final = 4  # in a message; no more are selected for pairing


def resource(namespace: str, service: str) -> Resource:
    attributes = {"service.namespace": namespace, "service.name": service, "host.name": "host-0"}
    return Resource(
        attributes=[KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items() if value]
    )


def traces(window: int, message: int, namespaces: Sequence[str]) -> bytes:
    """Encode CALLS calls of `front` to `cart` in each namespace."""
    request, end_ms = ExportTraceServiceRequest(), START_MS + window * WINDOW_MS + 5_000
    for namespace in namespaces:
        took_ms = 900 if namespace == "eu" and window >= SLOW_FROM else 50
        for service, kind, number in (("front", KIND_CLIENT, 1), ("cart", KIND_SERVER, 2)):
            spans = request.resource_spans.add(resource=resource(namespace, service)).scope_spans.add().spans
            for call in range(CALLS):
                span = spans.add(
                    trace_id=f"{namespace:2}{window:6}{message:4}{call:4}".encode(), span_id=bytes([number] * 8)
                )
                span.parent_span_id = b"\x01" * 8 if kind == KIND_SERVER else b""
                span.name, span.kind = "GET /cart", kind
                span.start_time_unix_nano, span.end_time_unix_nano = (end_ms - took_ms) * MS, end_ms * MS
    return bytes(request.SerializeToString())


def logs(window: int, namespaces: Sequence[str]) -> bytes:
    """Encode an error of `cart` in each namespace."""
    request = ExportLogsServiceRequest()
    for namespace in namespaces:
        records = request.resource_logs.add(resource=resource(namespace, "cart")).scope_logs.add().log_records
        record = records.add(time_unix_nano=(START_MS + window * WINDOW_MS) * MS, severity_number=17)
        record.body.string_value = "payment refused"
    return bytes(request.SerializeToString())


def outputs(namespaces: Sequence[str], windows: int) -> list[Any]:
    """Run the graph on two messages of spans and one of logs in each window."""
    of_traces, of_logs = TraceFold(FoldConfig(TIMES)), LogFold(FoldConfig(TIMES))
    events = []
    for window in range(windows):
        at_ms = START_MS + (window + 1) * WINDOW_MS
        messages = [
            of_traces.fold(traces(window, part, namespaces), KafkaPosition("traces", 0, 2 * window + part, at_ms))
            for part in (0, 1)
        ]
        messages.append(of_logs.fold(logs(window, namespaces), KafkaPosition("logs", 0, window, at_ms)))
        assert not any(folded.dead_letters for folded in messages)
        events += [(at_ms, folded.message) for folded in messages]
    return list(run(stages(graph_config("final")), events))


@pytest.mark.parametrize("namespaces", [("eu", "us"), ("us", "eu"), ("eu", "")], ids=str)
def test_services_of_one_name_in_two_namespaces_are_two(namespaces: tuple[str, str]) -> None:
    windows = 6
    found = outputs(namespaces, windows)
    rows = [
        row for row in found if isinstance(row, RollupRow) and row.resolution_s == 10 and row.dimension == "service"
    ]
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts[row.namespace, row.service] += row.count
    spans = 2 * CALLS * windows
    assert counts == {(namespace, service): spans for namespace in namespaces for service in ("front", "cart")}
    edges = {
        (row.namespace, row.service, row.callee_namespace, row.callee) for row in found if isinstance(row, EdgeRow)
    }
    assert edges == {(namespace, "front", namespace, "cart") for namespace in namespaces}
    for kind in (PatternRow, PatternName):
        named = {(row.namespace, row.service) for row in found if isinstance(row, kind) and row.source == "logs"}
        assert named == {(namespace, "cart") for namespace in namespaces}


def test_an_insight_has_the_namespace_beside_the_name_and_an_id_of_both() -> None:
    found = [
        out for out in outputs(("us", "eu"), SLOW_FROM + 12) if isinstance(out, Insight) and out.kind == "latency_spike"
    ]
    assert {(out.namespace, out.service, out.subject) for out in found} == {
        ("eu", "cart", ""),
        ("eu", "front", "eu/cart"),
    }
    assert {out.title.partition(":")[0] for out in found} == {"cart", "front"}
    assert {out.evidence.edges for out in found if out.service == "front"} == {("eu/front -> eu/cart",)}
    at_cart = next(out for out in found if out.service == "cart")
    start_ms = at_cart.window.start_ms
    assert at_cart.insight_id == insight_id("latency_spike", "default", "eu/cart", "", start_ms)
    assert at_cart.insight_id != insight_id("latency_spike", "default", "cart", "", start_ms)
