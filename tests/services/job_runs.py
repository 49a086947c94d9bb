"""Runs of the shipped job on a standalone cluster, and readers of its results in Kafka and Iceberg."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import sqlalchemy
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from jobs.settings import JobConfig
from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.group_offsets import committed_offsets, end_offsets, has_read
from reasoner.clients.insight_topic import committed, records_to_end
from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.errors import CommandFailed
from reasoner.recordings.message import Message
from reasoner.runs import demo
from reasoner.runs.job_process import write_config
from reasoner.runs.submit import Submission
from reasoner.traffic import shop
from reasoner.waiting import wait_until
from state_schemas.contracts.tables import RESOLUTIONS_S
from state_schemas.telemetry.signals import SIGNALS, SignalType
from udfs.logs.severity import WARN

DRAIN_DEADLINE_S = 240.0
START_MS = 1_700_000_000_000  # a recording: older than the default retention of a topic
PLAN = demo.plan(12, True, START_MS)  # the incident of this seed: a whole service is slow


@cache
def shop_messages() -> tuple[Message, ...]:
    """Return the telemetry of the plan, which several jobs read."""
    return tuple(shop.messages(PLAN.seed, PLAN.start_ms, demo.DURATION_MS, PLAN.incident))


def records_in(messages: list[Message]) -> Counter[str]:
    """Count spans, log records (also the severe ones) and metric points by signal, with protobuf's own parser."""
    counts: Counter[str] = Counter()
    for message in messages:
        if message.topic_kind == "traces":
            traces = ExportTraceServiceRequest.FromString(message.value).resource_spans
            counts["traces"] += sum(len(scope.spans) for part in traces for scope in part.scope_spans)
        elif message.topic_kind == "logs":
            logs = ExportLogsServiceRequest.FromString(message.value).resource_logs
            lines = [line for part in logs for scope in part.scope_logs for line in scope.log_records]
            counts["logs"] += len(lines)
            counts["severe"] += sum(line.severity_number >= WARN for line in lines)
        else:
            parts = ExportMetricsServiceRequest.FromString(message.value).resource_metrics
            metrics = [metric for part in parts for scope in part.scope_metrics for metric in scope.metrics]
            counts["metrics"] += sum(len(getattr(metric, metric.WhichOneof("data")).data_points) for metric in metrics)
    return counts


def database(sqlalchemy_url: str, jdbc_url: str, name: str) -> str:
    """Create a database of this name beside `lake`, so that each test has its own catalog; return its JDBC address."""
    engine = sqlalchemy.create_engine(sqlalchemy_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f'CREATE DATABASE "{name}"'))
    finally:
        engine.dispose()
    return jdbc_url.replace("/lake?", f"/{name}?")


def job_config(
    name: str,
    bootstrap: str,
    jdbc_url: str,
    folder: Path,
    *,
    signals: Sequence[SignalType] = SIGNALS,
    engine: Mapping[str, Any] | None = None,
    detection: Mapping[str, Any] | None = None,
) -> JobConfig:
    """Return the default settings with the given changes; topics, group and transactions have the name of the test."""
    topics = {signal: f"{name}-{signal}" if signal in signals else "" for signal in SIGNALS}
    return JobConfig.model_validate(
        {
            "name": name,
            "kafka": {
                "bootstrap_servers": bootstrap,
                "group_id": name,
                "idle_ms": 0,
                "topics": {**topics, "insights": f"{name}-insights", "rejected": f"{name}-rejected"},
            },
            "lake": {"uri": jdbc_url, "warehouse": f"file://{folder}/warehouse"},
            "engine": {
                "parallelism": 2,
                "checkpoint_interval_ms": 3_000,
                "checkpoint_dir": f"file://{folder}/checkpoints",
                **(engine or {}),
            },
            "detection": dict(detection or {}),
        }
    )


def topics_in(config: JobConfig) -> dict[SignalType, str]:
    """Return the topics that the job reads, by signal type."""
    return {signal: topic for signal in SIGNALS if (topic := getattr(config.kafka.topics, signal))}


def wait_for_state(rest: FlinkRest, job_id: str, wanted: str, deadline_s: float) -> None:
    """Wait until the job has this state. Raises CommandFailed if it ends in another one or the deadline passes."""
    page = f"see {rest.url}/jobs/{job_id}/exceptions"

    def has_state() -> bool:
        state = rest.jobs().get(job_id, "gone")
        if state != wanted and state in ("FINISHED", "FAILED", "CANCELED"):
            message = f"job {job_id} is {state}, expected {wanted}; {page}"
            raise CommandFailed(message)
        return state == wanted

    wait_until(has_state, f"job {job_id} is {wanted}; {page}", deadline_s)


@dataclass(frozen=True)
class ClusterJob:
    """A job on a cluster. folder: for its settings, checkpoints and warehouse. job: its name for `submit`."""

    config: JobConfig
    rest: FlinkRest
    folder: Path
    job: str = "insights"
    job_id: str = ""

    def prepare(self, partitions: int) -> None:
        """Create topics with unlimited retention, and the tables."""
        specs = dict.fromkeys(topics_in(self.config).values(), TopicSpec(partitions, KEEP_FOR_EVER_MS))
        topics = self.config.kafka.topics
        specs |= dict.fromkeys((topics.insights, topics.rejected), TopicSpec(2, KEEP_FOR_EVER_MS))
        create_topics(self.config.kafka.bootstrap_servers, specs)
        lake.create_tables(self.config.lake)

    def started(self, savepoint: str = "") -> "ClusterJob":
        """Submit the job and wait until it runs; return it with its job id."""
        path = write_config(self.config, self.folder / f"{self.config.name}.yaml")
        job_id = Submission(self.job, path, savepoint).submit(self.rest.url)
        wait_for_state(self.rest, job_id, "RUNNING", DRAIN_DEADLINE_S)
        return replace(self, job_id=job_id)

    def refusal(self) -> str:
        """Return why `submit` would refuse the job, "" if it would not."""
        try:
            path = write_config(self.config, self.folder / f"{self.config.name}.yaml")
            Submission(self.job, path).preflight(self.rest)
        except CommandFailed as refused:
            return str(refused)
        return ""

    def state(self) -> str:
        return self.rest.jobs()[self.job_id]

    def messages_read(self) -> tuple[int, int]:
        """Return (messages before the offsets of the last completed checkpoint, messages in the topics now)."""
        bootstrap, group = self.config.kafka.bootstrap_servers, self.config.kafka.group_id
        read = committed_offsets(bootstrap, group)
        ends = end_offsets(bootstrap, topics_in(self.config).values())
        return sum(min(read.get(part, 0), end) for part, end in ends.items()), sum(ends.values())

    def wait_until_read(self, deadline_s: float = 300.0) -> None:
        """Wait until the offsets of the last completed checkpoint are the ends of all topics."""
        kafka = self.config.kafka
        ends = end_offsets(kafka.bootstrap_servers, topics_in(self.config).values())
        read = partial(has_read, kafka.bootstrap_servers, kafka.group_id, ends)
        wait_until(read, "a checkpoint behind everything that was sent", deadline_s, 1.0)

    def drain(self) -> str:
        """Stop the job with event time at its end; return the savepoint when the job has finished."""
        folder = self.config.engine.checkpoint_dir
        savepoint = self.rest.stop(self.job_id, folder, drain=True, deadline_s=DRAIN_DEADLINE_S)
        wait_for_state(self.rest, self.job_id, "FINISHED", DRAIN_DEADLINE_S)
        return savepoint

    def spans_in_rollups(self) -> dict[int, int]:
        """Return the sum of all delta rows of services, late ones included, by resolution in seconds."""
        rows = lake.read(
            self.config.lake,
            "latency_rollups",
            row_filter="dimension = 'service'",
            selected_fields=("resolution_s", "count"),
        )
        sums = dict.fromkeys(RESOLUTIONS_S, 0)
        for resolution_s, count in zip(rows["resolution_s"].to_pylist(), rows["count"].to_pylist(), strict=True):
            sums[resolution_s] += count
        return sums

    def severe_lines(self) -> dict[int, int]:
        """Return the severe lines in the rows of patterns and of `other`, by resolution in seconds."""
        rows = lake.read(self.config.lake, "error_patterns", selected_fields=("resolution_s", "count"))
        sums = rows.group_by("resolution_s").aggregate([("count", "sum")]).to_pylist()
        return {row["resolution_s"]: row["count_sum"] for row in sums}

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return all dead letters of the topic."""
        topic = self.config.kafka.topics.rejected
        return [json.loads(record.value) for record in committed_records(self.config.kafka.bootstrap_servers, topic)]

    def insight_records(self) -> list[Any]:
        """Return the committed Kafka records of the insights, by partition and offset."""
        return committed_records(self.config.kafka.bootstrap_servers, self.config.kafka.topics.insights)

    def table_bodies(self) -> list[bytes]:
        """Return the JSON of every insight revision in the table, ascending."""
        rows = lake.read(self.config.lake, "insights", selected_fields=("body",))
        return sorted(body.encode() for body in rows["body"].to_pylist())


def rejected_records(letters: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Return rejected records by reason. Letters about whole messages count none: their content is not readable."""
    counts: Counter[str] = Counter()
    for letter in letters:
        counts[letter["reason"]] += letter["records"]
    return +counts


def committed_records(bootstrap: str, topic: str) -> list[Any]:
    """Return the records of a topic under read_committed, up to its current end."""
    with committed(bootstrap, topic) as consumer:
        found = records_to_end(consumer)
    return sorted(found, key=lambda record: (record.partition, record.offset))
