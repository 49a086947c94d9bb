"""What is in the topics, as spans, log records and points with the attributes of their resources."""

from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from reasoner.clients.insight_topic import committed, records_to_end
from state_schemas.contracts.settings import Topics


@dataclass
class Seen:
    """Spans, log records and points of Kafka, each with the attributes of its resource; sizes of the messages."""

    spans: list[tuple[dict[str, Any], Any]] = field(default_factory=list)
    logs: list[tuple[dict[str, Any], Any]] = field(default_factory=list)
    points: list[tuple[dict[str, Any], str, Any]] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    text: str = ""

    def span(self, name: str) -> tuple[dict[str, Any], Any]:
        """Return the one span of this name."""
        (found,) = [(resource, span) for resource, span in self.spans if span.name == name]
        return found

    def line(self, part: str) -> tuple[dict[str, Any], Any]:
        """Return the one log record with these words in its body."""
        (found,) = [(resource, record) for resource, record in self.logs if part in record.body.string_value]
        return found


def values(attributes: Any) -> dict[str, Any]:
    """Return attributes as a dictionary; of an array its texts."""
    found = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        found[attribute.key] = [one.string_value for one in value.values] if kind == "array_value" else value
    return found


def read(bootstrap: str) -> Seen:
    """Read the three topics to their ends."""
    seen, topics = Seen(), Topics()
    for topic in (topics.traces, topics.logs, topics.metrics):
        with committed(bootstrap, topic) as consumer:
            for record in records_to_end(consumer):
                seen.bytes.append(len(record.value))
                _add(seen, topics, topic, record.value)
    return seen


def _add(seen: Seen, topics: Topics, topic: str, value: bytes) -> None:
    if topic == topics.traces:
        traces = ExportTraceServiceRequest.FromString(value)
        seen.text += str(traces)
        for part in traces.resource_spans:
            seen.spans += [
                (values(part.resource.attributes), span) for scope in part.scope_spans for span in scope.spans
            ]
    elif topic == topics.logs:
        logs = ExportLogsServiceRequest.FromString(value)
        seen.text += str(logs)
        for entry in logs.resource_logs:
            resource = values(entry.resource.attributes)
            seen.logs += [(resource, record) for scope in entry.scope_logs for record in scope.log_records]
    else:
        for found in ExportMetricsServiceRequest.FromString(value).resource_metrics:
            resource = values(found.resource.attributes)
            for metric in (metric for scope in found.scope_metrics for metric in scope.metrics):
                points = getattr(metric, metric.WhichOneof("data")).data_points
                seen.points += [(resource, metric.name, point) for point in points]
