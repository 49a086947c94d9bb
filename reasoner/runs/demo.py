"""The demo: telemetry of a shop with one planted incident through real Kafka, Flink and Iceberg, checked at the end."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

from jobs.settings import Detection, Engine, JobConfig
from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest, NoAnswer
from reasoner.clients.group_offsets import end_offsets, has_read
from reasoner.clients.insight_topic import committed, last_revisions, poll
from reasoner.clients.topics import TopicSpec, create_topics
from reasoner.errors import CommandFailed
from reasoner.recordings.player import PlayOptions, play
from reasoner.recordings.reshape import placed
from reasoner.runs.job_process import job_process, lake_in
from reasoner.runs.local_run import TOPICS
from reasoner.traffic import shop
from reasoner.traffic.shop_graph import Incident, plan_incident
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.settings import Kafka
from udfs.event_time import WINDOW_MS

HOUR_MS: Final = 3_600_000
DURATION_MS: Final = 12 * 60_000
PARTITIONS: Final = 2
SPEED: Final = 22.0  # 12 minutes in 33 s: slow enough to see an insight open before it closes
DEADLINE_S: Final = 240.0

# A rule of the demo's own: a service has trouble, and one that calls it has it too.
RULE: Final = """
id: trouble-spreads
version: 1
title: trouble spreads to a caller
by: env
within: 5m
severity: critical
suppress_ms: 600000
steps:
  - {name: trouble, insight: {kind: [latency_spike, error_ratio]}}
  - {name: caller, insight: {kind: [latency_spike, error_ratio]}, calls: $trouble}
description: |
  Look at the service of the first step: its callers wait for it.
"""

RAW_RETENTION_MS: Final = 6 * HOUR_MS
INSIGHTS_RETENTION_MS: Final = 90 * 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """The telemetry to play. incident None: normal telemetry, for which no insight is expected. start_ms: epoch ms."""

    seed: int
    start_ms: int
    incident: Incident | None


def plan(seed: int, with_incident: bool, now_ms: int) -> DemoPlan:
    """Plan an interval that ends now, at the border of a window."""
    start_ms = (now_ms - DURATION_MS) // 10_000 * 10_000
    incident = plan_incident(seed, start_ms, DURATION_MS) if with_incident else None
    return DemoPlan(seed, start_ms, incident)


def config(bootstrap: str, folder: Path, rest_port: int) -> JobConfig:
    """Return the settings of the job: the defaults with small sizes and short checkpoints, for early results."""
    kafka = Kafka(bootstrap_servers=bootstrap, idle_ms=0)
    rest = {"rest.port": str(rest_port), "rest.address": "127.0.0.1", "rest.bind-address": "127.0.0.1"}
    sizes = Engine(parallelism=1, checkpoint_interval_ms=3_000, state_backend="hashmap", bundle_time_ms=200, flink=rest)
    (folder / "rule.yaml").write_text(RULE)
    looked_for = Detection(rules=folder / "rule.yaml")
    return JobConfig(name="demo", kafka=kafka, lake=lake_in(folder), engine=sizes, detection=looked_for)


def prepare(job: JobConfig) -> None:
    """Create the topics with their retention, and the tables."""
    topics = job.kafka.topics
    wanted = dict.fromkeys((*TOPICS.values(), topics.rejected), TopicSpec(PARTITIONS, RAW_RETENTION_MS))
    wanted[topics.insights] = TopicSpec(PARTITIONS, INSIGHTS_RETENTION_MS)
    create_topics(job.kafka.bootstrap_servers, wanted)
    lake.create_tables(job.lake)


def _watch(kafka: Kafka, on_insight: Callable[[Insight], None], ended: Event) -> list[bytes]:
    """Show insights when they are committed, until `ended` is set and no more arrive; return all revisions."""
    bodies: list[bytes] = []
    with committed(kafka.bootstrap_servers, kafka.topics.insights) as consumer:
        while (found := poll(consumer, 500)) or not ended.is_set():
            for body in found:
                on_insight(from_json(body))
            bodies += found
    return bodies


def run(
    job: JobConfig,
    folder: Path,
    demo: DemoPlan,
    on_progress: Callable[[int], None],
    on_insight: Callable[[Insight], None],
) -> list[Insight]:
    """Run the job on a mini-cluster while the telemetry is played, drain it, and return the insights of the topic."""
    ended = Event()
    rest = FlinkRest(f"http://127.0.0.1:{job.engine.flink['rest.port']}")

    def running_id() -> str:
        with suppress(CommandFailed):
            return next((job_id for job_id, state in rest.jobs().items() if state == "RUNNING"), "")
        return ""

    with job_process(job, folder) as process, ThreadPoolExecutor(1) as pool:
        watching = pool.submit(_watch, job.kafka, on_insight, ended)
        try:
            messages = placed(shop.messages(demo.seed, demo.start_ms, DURATION_MS, demo.incident), PARTITIONS)
            options = PlayOptions(compression="gzip", speed=SPEED)
            play(messages, job.kafka.bootstrap_servers, TOPICS, options, on_progress=on_progress)
            job_id = process.wait_until(running_id, "the job runs", DEADLINE_S)
            bootstrap, group = job.kafka.bootstrap_servers, job.kafka.group_id
            read = partial(has_read, bootstrap, group, end_offsets(bootstrap, TOPICS.values()))
            process.wait_until(read, "a checkpoint behind the last message", DEADLINE_S)
            # A mini-cluster ends with its job, sometimes before it has answered that the savepoint is complete.
            with suppress(NoAnswer):
                rest.stop(job_id, f"file://{folder}/savepoints", drain=True, deadline_s=DEADLINE_S)
            process.wait(DEADLINE_S)
        finally:
            ended.set()
        return last_revisions(watching.result())


def in_table(job: JobConfig) -> list[Insight]:
    """Return the last revisions in the Iceberg table."""
    bodies = lake.read(job.lake, "insights", selected_fields=("body",))["body"].to_pylist()
    return last_revisions(body.encode() for body in bodies)


def faults(demo: DemoPlan, topic: list[Insight], table: list[Insight]) -> list[str]:
    """Return what is wrong with the outcome; empty if exactly the planted incident is in both sinks."""
    found, incident = [], demo.incident
    if topic != table:
        found.append(f"the topic holds {len(topic)} insights, the table {len(table)}, and they are not the same")
    during = [insight for insight in topic if incident and _overlaps(incident, insight)]
    near = {incident.service, *incident.affected} if incident else set()  # also services that wait for the faulty one
    belonging = [insight for insight in during if _services(insight) <= near]
    found += [f"not planted: {insight.title}" for insight in topic if insight not in belonging]
    kind = "error_ratio" if incident and incident.kind == "errors" else "latency_spike"
    if incident and (incident.service, kind) not in [(insight.service, insight.kind) for insight in during]:
        found.append(f"not found: {describe(incident)}")
    return found


def _services(insight: Insight) -> set[str]:
    """Return the services that an insight is about: of a match those of its steps."""
    steps = {step.service.rpartition("/")[2] for step in insight.evidence.timeline}
    return steps or {insight.service}


def describe(incident: Incident) -> str:
    """Describe the planted incident in one line."""
    where = "".join(
        f", {name} {value}" for name, value in (("host", incident.host), ("operation", incident.operation)) if value
    )
    size = f"{incident.factor:.0%} of spans fail" if incident.kind == "errors" else f"{incident.factor:g} times slower"
    reached = f"; also affects {', '.join(incident.affected)}" if incident.affected else ""
    length_s = (incident.end_ms - incident.start_ms) / 1000
    clock = time.strftime("%H:%M:%S", time.gmtime(incident.start_ms / 1000))
    return f"{incident.service}{where}: {size} from {clock} for {length_s:.0f} s{reached}"


def _overlaps(incident: Incident, insight: Insight) -> bool:
    # A match begins and ends with the windows of its steps, of which it has the starts.
    end_ms = insight.window.end_ms + (WINDOW_MS if insight.evidence.timeline else 0)
    return insight.window.start_ms < incident.end_ms and end_ms > incident.start_ms
