"""Recorded telemetry (Nezha, TrainTicket): JSON, the wire scanner and protobuf's own parser give equal results."""

import io
import json
from collections.abc import Iterator
from itertools import islice

import pytest
import zstandard
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.spans import SpanColumns
from tests.support.otlp_forms import same, with_base64_ids
from tests.support.otlp_reference import ReferenceDecoder
from tests.support.recorded import NEZHA as RECORDED
from udfs.otlp.decoder import SpanDecoder, decode_logs, decode_metrics

LINES_MAX = 8

pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="no recordings: ../shared/data/nezha-trainticket is absent"
)


def requests_in(name: str) -> Iterator[bytes]:
    """Yield the first requests of a recording, one a line."""
    with (RECORDED / name).open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        yield from islice((line for line in io.BufferedReader(stream) if line.strip()), LINES_MAX)


def as_protobuf(line: bytes, request: Message) -> bytes:
    return bytes(ParseDict(with_base64_ids(json.loads(line)), request).SerializeToString())


@pytest.mark.parametrize("name", ["2023-01-29/08_50.traces.jsonl.zst", "2023-01-30/11_39.traces.jsonl.zst"])
def test_recorded_spans_are_the_same_in_each_form(name: str) -> None:
    scanner, reference = SpanDecoder(), ReferenceDecoder()
    spans = 0
    for line in requests_in(name):
        data = as_protobuf(line, ExportTraceServiceRequest())
        scanned, parsed, from_json = scanner.decode(data), reference.decode(data), scanner.decode(line)
        assert isinstance(scanned, SpanColumns)
        assert isinstance(parsed, SpanColumns)
        assert isinstance(from_json, SpanColumns)
        assert same(scanned, parsed)
        assert same(scanned, from_json)
        assert {resource.env for resource in scanned.resources} == {"prod"}
        assert all(resource.host.startswith(resource.service) for resource in scanned.resources), "host: not the pod"
        spans += len(scanned.name)
    assert spans > 100


@pytest.mark.parametrize("name", ["2023-01-29/08_50.logs.jsonl.zst", "2023-01-30/11_39.logs.jsonl.zst"])
def test_recorded_logs_are_the_same_in_each_form(name: str) -> None:
    records = 0
    for line in requests_in(name):
        found = decode_logs(line)
        assert not isinstance(found, Rejected)
        assert found == decode_logs(as_protobuf(line, ExportLogsServiceRequest()))
        records += len(found.records)
    assert records > 100


@pytest.mark.parametrize("day", ["2023-01-29", "2023-01-30"])
def test_recorded_metrics_are_the_same_in_each_form(day: str) -> None:
    points = 0
    for line in requests_in(f"{day}/metrics.jsonl.zst"):
        found = decode_metrics(line)
        assert not isinstance(found, Rejected)
        assert found == decode_metrics(as_protobuf(line, ExportMetricsServiceRequest()))
        points += len(found.records)
    assert points > 100
