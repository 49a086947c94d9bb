"""Rules are changed by their topic while the job runs: versions, removal, a bad record, a restore in between, a burst.

The matches are those of a replay that knows all rules from its beginning.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as replace_fields

from jobs.graph import with_rules
from jobs.settings import JobConfig
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.group_offsets import end_offsets, has_read
from reasoner.clients.insight_topic import last_revisions
from reasoner.clients.rules_topic import read_rule_records, send_rule_records
from reasoner.clients.topics import create_topics, rule_specs
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.recordings.read import times_ns
from reasoner.runs.local_run import LocalRun
from reasoner.stack import RunningStack
from reasoner.traffic import shop
from reasoner.traffic.shop_graph import Incident
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import Insight, to_json
from tests.faults.breaking import stop_with_savepoint, wait_for_a_checkpoint
from tests.services.job_runs import ClusterJob, job_config, topics_in
from tests.support.reshaped import spread
from udfs.otlp.decoder import SpanDecoder
from udfs.rules.publishing import READ_MS, published_rules

pytestmark = pytest.mark.faults

START_MS = 1_700_000_000_000
PART_MS = 100_000  # of the recording: in each one service fails from second 20 to 60
# At the end nothing fails, until all windows are final.
FAILING = ("users", "cart", "users", "cart", "users", "cart", "", "", "")
PARTITIONS = 4
BURST = 200
SPEED = 40.0  # of the part in which the burst comes: 340 spans a second of the recording


def rule(name: str, steps: str, version: int = 1) -> bytes:
    head = f"id: {name}\nversion: {version}\ntitle: {name}\nby: env\nwithin: 5m\nsuppress_ms: 20000\nsteps:\n"
    return (head + steps).encode()


def failing(service: str, within: str, count: int = 20) -> str:
    spans = f"span: {{service: {service}, status: error}}, count: '>= {count}', within: {within}"
    return f"  - {{name: {service}, {spans}}}\n"


BOTH = failing("users", "20s") + failing("cart", "2m")
CHANGED = failing("users", "20s") + failing("cart", "2m", 21)
NO_CART = failing("users", "20s") + "  - {name: cart, span: {service: cart, status: error}, not_within: 30s}\n"
BAD = b"id: bad\nsteps: [{name: x, span: {service|glob: a}}]"


def messages() -> Iterator[Message]:
    """Yield the telemetry of the parts, one after another, by send time."""
    parts = []
    for number, service in enumerate(FAILING):
        start_ms = START_MS + number * PART_MS
        failed = Incident("errors", service, None, None, start_ms + 20_000, start_ms + 60_000, 0.4, ())
        incident = failed if service else None
        parts.append(shop.messages(7 + number, start_ms, PART_MS, incident))
    yield from sorted(chain.from_iterable(parts), key=lambda message: message.timestamp_ms)


def sequences(bodies: Iterable[bytes]) -> list[Insight]:
    """Return the matches and absences, without what depends on emission and on the names of topics."""
    found = (one for one in last_revisions(bodies) if one.kind in ("sequence_match", "sequence_missing"))
    same: dict[str, Any] = {"revision": 0, "status": "open", "reason": ""}
    return [replace_fields(one, **same, evidence=replace_fields(one.evidence, kafka=())) for one in found]


def replayed(config: JobConfig, sent: Sequence[Message]) -> list[Insight]:
    """Return the matches of the local engine that has the rules of the topic from its beginning."""
    kafka, graph = config.kafka, config.graph()
    assert graph.rules is not None, "the job has a topic of rules"
    published = published_rules(read_rule_records(kafka.bootstrap_servers, kafka.topics.rules))
    run = LocalRun(with_rules(graph, graph.rules.with_rules(tuple(published.values()))))
    return sequences(to_json(out) for out in run.run(sent) if isinstance(out, Insight))


def hot_config(name: str, stack: RunningStack, folder: Path) -> JobConfig:
    config = job_config(
        name, stack.settings.kafka_bootstrap, stack.settings.postgres_jdbc_url, folder,
        engine={"checkpoint_interval_ms": 2_000},
    )  # fmt: skip
    topics = config.kafka.topics.model_copy(update={"rules": "hot-rules"})
    # Between the parts all sources are idle, those of telemetry as well as that of rules.
    kafka = config.kafka.model_copy(update={"topics": topics, "idle_ms": 5_000})
    return config.model_copy(update={"kafka": kafka})


def as_another_job(config: JobConfig, name: str) -> JobConfig:
    """Return the settings of a job that reads the same topics and puts out to its own."""
    topics = config.kafka.topics.model_copy(update={"insights": f"{name}-insights", "rejected": f"{name}-rejected"})
    kafka = config.kafka.model_copy(update={"group_id": name, "topics": topics})
    return config.model_copy(update={"name": name, "kafka": kafka})


@dataclass(frozen=True)
class Recording:
    """Telemetry and rules, sent part by part to a job."""

    config: JobConfig
    sent: tuple[Message, ...]

    def play(self, since_ms: int, until_ms: int, speed: float | None = None) -> float:
        """Send the messages of some time; return the spans a second."""
        part = [message for message in self.sent if since_ms <= message.timestamp_ms < until_ms]
        options = PlayOptions(compression="gzip", speed=speed)
        began_s = time.monotonic()
        play(part, self.config.kafka.bootstrap_servers, topics_in(self.config), options)
        took_s = time.monotonic() - began_s
        traces = (message.value for message in part if message.topic_kind == "traces")
        return sum(len(times_ns("traces", value, SpanDecoder())) for value in traces) / took_s

    def publish(self, at_ms: int, records: Iterable[tuple[str, bytes | None]]) -> None:
        """Send records to the rules topic."""
        kafka = self.config.kafka
        send_rule_records(kafka.bootstrap_servers, kafka.topics.rules, ((key, text, at_ms) for key, text in records))

    def wait_until_ruled(self) -> None:
        """Wait for a checkpoint behind all rules: barriers follow them to every stage."""
        kafka = self.config.kafka
        ends = end_offsets(kafka.bootstrap_servers, [kafka.topics.rules])
        read = partial(has_read, kafka.bootstrap_servers, kafka.group_id, ends)
        wait_until(read, "a checkpoint behind every rule", 120.0, 0.5)


def test_hot_rules(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    config = hot_config("hot", stack, tmp_path)
    recording = Recording(config, tuple(spread(messages(), PARTITIONS, 1)))
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
    job.prepare(PARTITIONS)
    create_topics(config.kafka.bootstrap_servers, rule_specs(config.kafka))
    recording.publish(START_MS - READ_MS, [("users-then-cart", rule("users-then-cart", BOTH))])
    job = job.started()
    others = [("removed", rule("removed", BOTH)), ("users-without-cart", rule("users-without-cart", NO_CART))]
    recording.publish(START_MS - READ_MS, others)
    recording.wait_until_ruled()
    # The users have failed and the cart has not yet: the sequence is half way when its rule changes.
    half_ms = START_MS + PART_MS - 10_000
    recording.play(0, half_ms)
    job.wait_until_read()
    changed = ("users-then-cart", rule("users-then-cart", CHANGED, 2))
    recording.publish(half_ms, [changed, ("removed", None), ("bad", BAD)])
    recording.wait_until_ruled()
    job = job.started(stop_with_savepoint(job))
    burst_ms = START_MS + 3 * PART_MS
    recording.play(half_ms, burst_ms)
    with ThreadPoolExecutor(1) as pool:
        burst = ((f"burst-{number}", rule(f"burst-{number}", BOTH)) for number in range(BURST))
        sent = pool.submit(recording.publish, burst_ms + PART_MS - READ_MS, burst)
        verdict["spans_per_s_in_the_burst"] = round(recording.play(burst_ms, burst_ms + PART_MS, SPEED))
        sent.result()
    recording.wait_until_ruled()
    recording.play(burst_ms + PART_MS, 1 << 60)
    job.wait_until_read()
    completed = wait_for_a_checkpoint(job)
    restarts = job.rest.restarts(job.job_id)
    job.drain()

    bodies = [record.value for record in job.insight_records()]
    matches = sequences(bodies)
    verdict |= {
        "restarts": restarts,
        "checkpoints": completed,
        "matches_by_rule": dict(Counter(one.subject for one in matches if not one.subject.startswith("burst"))),
        "burst_rules_with_a_match": len({one.subject for one in matches if one.subject.startswith("burst")}),
        "rejected": [one.title for one in last_revisions(bodies) if one.kind == "rule_rejected"],
    }
    assert matches == replayed(config, recording.sent)
    assert set(verdict["matches_by_rule"]) == {"users-then-cart@1", "users-then-cart@2", "users-without-cart@1"}
    assert verdict["burst_rules_with_a_match"] == BURST
    assert len(verdict["rejected"]) == 1
    assert restarts == 0

    # Another job starts on the whole backlog of telemetry and rules.
    backlog = as_another_job(config, "backlog")
    late = ClusterJob(backlog, job.rest, tmp_path)
    late.prepare(PARTITIONS)
    late = late.started()
    late.wait_until_read()
    wait_for_a_checkpoint(late)
    late.drain()
    verdict["matches_from_the_backlog"] = len(sequences(record.value for record in late.insight_records()))
    assert sequences(record.value for record in late.insight_records()) == replayed(backlog, recording.sent)
    verdict["pass"] = True
