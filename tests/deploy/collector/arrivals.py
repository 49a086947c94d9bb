"""Ids of what was sent and of what has arrived: from the services' notes, their log files, Kafka, and Tempo's place."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from reasoner.clients.insight_topic import committed, records_to_end
from udfs.logs.severity import WARN

UID: Final = "log.record.uid"
_UID_IN_TEXT: Final = re.compile(r" id=([0-9a-f]{32})$", re.MULTILINE)
_NO_TRACE: Final = "0" * 32


def acknowledged(folder: Path) -> tuple[set[str], set[str]]:
    """Return the ids that the Collector has acknowledged to the SDKs, and those that the SDKs gave up."""
    lines = [line for path in folder.glob("*.ids") for line in path.read_text().splitlines()]
    given_up = {line.removeprefix("-") for line in lines if line.startswith("-")}
    return {line for line in lines if not line.startswith("-")}, given_up


def written(folder: Path) -> dict[str, str]:
    """Return the ids of the records in the services' plain log files, each with its trace id, "" outside of a trace."""
    found: dict[str, str] = {}
    for path in folder.glob("*/*.json"):
        found |= {line[UID]: line["trace_id"] for line in map(json.loads, path.read_text().splitlines())}
    for path in folder.glob("*/*.log"):
        lines = [line for line in path.read_text().splitlines() if _UID_IN_TEXT.search(line)]
        found |= {_UID_IN_TEXT.findall(line)[0]: line.partition(" trace_id=")[2][:32] for line in lines}
    return {f"log {uid}": trace.replace(_NO_TRACE, "") for uid, trace in found.items()}


@dataclass
class Trace:
    """What tail sampling sees of a trace."""

    spans: set[str] = field(default_factory=set)
    start_ns: int = 2**63
    end_ns: int = 0
    failed: bool = False

    @property
    def duration_ms(self) -> float:
        return (self.end_ns - self.start_ns) / 1e6


@dataclass
class Arrived:
    """What is in the topics. ids: of everything that the services sent, with how often each is there."""

    ids: Counter[str] = field(default_factory=Counter)
    spans: int = 0
    lines: int = 0
    severe: int = 0
    of_files: dict[str, str] = field(default_factory=dict)  # log record of a file -> trace id
    stack_traces: int = 0
    largest_message_bytes: int = 0
    traces: dict[str, Trace] = field(default_factory=dict)


def arrived(bootstrap: str, topics: Iterable[str]) -> Arrived:
    """Read the topics to their present ends."""
    found = Arrived()
    for topic in topics:
        with committed(bootstrap, topic) as consumer:
            for record in records_to_end(consumer):
                found.largest_message_bytes = max(found.largest_message_bytes, len(record.value))
                {"traces": _add_spans, "logs": _add_logs, "metrics": _add_points}[topic.rpartition("-")[2]](
                    found, record.value
                )
    return found


def _add_spans(found: Arrived, value: bytes) -> None:
    parts = ExportTraceServiceRequest.FromString(value).resource_spans
    for span in (span for part in parts for scope in part.scope_spans for span in scope.spans):
        found.ids[f"span {span.span_id.hex()}"] += 1
        found.spans += 1
        trace = found.traces.setdefault(span.trace_id.hex(), Trace())
        trace.spans.add(span.span_id.hex())
        trace.start_ns = min(trace.start_ns, span.start_time_unix_nano)
        trace.end_ns = max(trace.end_ns, span.end_time_unix_nano)
        trace.failed |= span.status.code == Status.STATUS_CODE_ERROR


def _add_logs(found: Arrived, value: bytes) -> None:
    for part in ExportLogsServiceRequest.FromString(value).resource_logs:
        for record in (record for scope in part.scope_logs for record in scope.log_records):
            attributes = {attribute.key: attribute.value.string_value for attribute in record.attributes}
            uid = attributes.get(UID) or "".join(_UID_IN_TEXT.findall(record.body.string_value))
            found.ids[f"log {uid}"] += 1
            found.lines += 1
            found.severe += record.severity_number >= WARN
            if "log.file.path" in attributes:
                found.of_files[f"log {uid}"] = record.trace_id.hex().replace(_NO_TRACE, "")
                found.stack_traces += "Traceback" in record.body.string_value


def _add_points(found: Arrived, value: bytes) -> None:
    for part in ExportMetricsServiceRequest.FromString(value).resource_metrics:
        service = next((a.value.string_value for a in part.resource.attributes if a.key == "service.name"), "")
        for metric in (metric for scope in part.scope_metrics for metric in scope.metrics):
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                attributes = {a.key: _text(a.value) for a in sorted(point.attributes, key=lambda a: a.key)}
                found.ids[f"point {service} {metric.name} {json.dumps(attributes)} {point.time_unix_nano}"] += 1


def _text(value: Any) -> str:
    return str(getattr(value, value.WhichOneof("value")))


def spans_in(folder: Path) -> dict[str, set[str]]:
    """Return the spans of each trace in a recording of the Collector's file exporter."""
    traces: dict[str, set[str]] = {}
    path = folder / "traces.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        for part in json.loads(line)["resourceSpans"]:
            for span in (span for scope in part["scopeSpans"] for span in scope["spans"]):
                traces.setdefault(span["traceId"], set()).add(span["spanId"])
    return traces
