"""Traces, logs and metrics of a service by OTLP over HTTP: what each service calls at its start."""

import logging
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.kafka import KafkaInstrumentor
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.instrumentation.urllib import URLLibInstrumentor
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import set_tracer_provider

from examples.own_services import ledger, log_files

METRICS_INTERVAL_MS = 10_000
_started: list[TracerProvider | MeterProvider | LoggerProvider] = []


def start(
    service: str, version: str, endpoint: str, logs: Path | None = None, acknowledged: Path | None = None
) -> None:
    """Send what the process records to the Collector at `endpoint`, such as http://127.0.0.1:4318.

    Clients of urllib and kafka-python get spans by themselves; log records go out through the root logger.

    - logs: folder into which `catalog` and `orders` write their log records instead, as plain files.
    - acknowledged: folder into which the ids are written that the Collector has acknowledged.
    """
    resource = Resource.create(
        {
            "service.name": service,
            "service.version": version,
            "service.instance.id": f"{service}-1",
            "deployment.environment.name": "shop",
        }
    )
    to_traces = OTLPSpanExporter(f"{endpoint}/v1/traces")
    to_metrics = OTLPMetricExporter(f"{endpoint}/v1/metrics")
    to_logs = OTLPLogExporter(f"{endpoint}/v1/logs")
    if acknowledged:
        ledger.note(acknowledged, to_traces, to_metrics, to_logs)
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(to_traces))
    set_tracer_provider(traces)
    reader = PeriodicExportingMetricReader(to_metrics, METRICS_INTERVAL_MS)
    meters = MeterProvider([reader], resource)
    set_meter_provider(meters)
    records = LoggerProvider(resource=resource)
    records.add_log_record_processor(BatchLogRecordProcessor(to_logs))
    written = logs and log_files.handler(logs, service)
    handler = written or LoggingHandler(logger_provider=records)
    handler.addFilter(log_files.with_id)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("kafka").setLevel(logging.ERROR)  # it says each rebalance and each fetch
    URLLibInstrumentor().instrument()
    KafkaInstrumentor().instrument()
    _started.extend((traces, meters, records))


def stop() -> None:
    """Send what is not sent yet."""
    for provider in _started:
        provider.shutdown()
