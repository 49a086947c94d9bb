"""The shipped job on a real cluster, with valid and broken input: every span is counted once or in a dead letter."""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import last_revisions
from reasoner.clients.known_patterns import KnownPattern, known_patterns
from reasoner.clients.lake_maintenance import Maintained, maintain
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.runs import demo
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import from_json
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.services.garbage import Sent, all_garbage, rejections_of, send_garbage
from tests.services.job_runs import (
    PLAN,
    ClusterJob,
    database,
    job_config,
    records_in,
    rejected_records,
    shop_messages,
    topics_in,
)
from tests.support.components import FlinkCluster, PostgresUrls
from tests.support.reshaped import spread

pytestmark = pytest.mark.services

NAME = "cluster"
PARTITIONS = 4


@dataclass(frozen=True)
class Outcome:
    """Messages that were sent, figures of the running job, and its results after it has stopped."""

    # Why `submit` refused the job before its topics and tables were there, with them, and while it ran.
    refused: list[str]
    records: Counter[str]
    sent: list[Sent]
    # Values of the topic while logs and metrics were at their first minute.
    early: list[bytes]
    maintained: list[Maintained]
    counters: dict[str, int]
    expected_counters: dict[str, int]
    restarts: int
    spans_by_resolution: dict[int, int]
    letters: list[dict[str, Any]]
    insight_records: list[Any]
    table_bodies: list[bytes]
    severe_lines: dict[int, int]
    patterns: list[KnownPattern]


@pytest.fixture(scope="module")
def outcome(
    silent: ClusterJob,  # starts first: it needs nothing but time while this job is submitted
    kafka: str,
    postgres: PostgresUrls,
    flink_cluster: FlinkCluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:
    """Run the job on 12 minutes of the shop, drain it and read everything back.

    Logs and metrics stay at their first minute until all traces and the broken messages are read, and no partition is
    marked idle. Then the tables are maintained under the running job with keep_ms=0, and the rest is sent.
    """
    folder = tmp_path_factory.mktemp("job")
    jdbc = database(postgres.sqlalchemy, postgres.jdbc, NAME)
    config = job_config(NAME, kafka, jdbc, folder)
    job = ClusterJob(config, FlinkRest(flink_cluster.rest_url), folder)
    refused = [job.refusal()]
    job.prepare(PARTITIONS)
    refused.append(job.refusal())
    messages = list(spread(shop_messages(), PARTITIONS, 1))
    first, second, lagging = _parts(messages, PLAN.start_ms + 60_000)
    topics = topics_in(config)
    job = job.started()

    play(first, kafka, topics, PlayOptions(compression="gzip"))
    job.wait_until_read()  # so that there are files of more than one commit to compact
    now_ms = second[0].timestamp_ms
    sent = send_garbage(kafka, topics, all_garbage(now_ms), now_ms)
    play(second, kafka, topics, PlayOptions(compression="zstd"))
    wait_until(lambda: bool(job.insight_records()), "an insight while logs are at their first minute", 120.0, 1.0)
    early = [record.value for record in job.insight_records()]
    job.wait_until_read()
    wall_ms = int(time.time() * 1000)
    maintained = [maintain(table, wall_ms) for table in lake.tables(config.lake)]
    play(lagging, kafka, topics, PlayOptions(compression="zstd"))
    job.wait_until_read()
    records = records_in(messages)
    expected = _expected_counters(records, sent)
    wait_until(lambda: expected.items() <= job.rest.counters(job.job_id).items(), f"REST shows {expected}", 120.0)
    counters = job.rest.counters(job.job_id)
    assert job.state() == "RUNNING"
    refused.append(job.refusal())
    restarts = job.rest.restarts(job.job_id)
    job.drain()
    return Outcome(
        refused,
        records,
        sent,
        early,
        maintained,
        counters,
        expected,
        restarts,
        job.spans_in_rollups(),
        job.dead_letters(),
        job.insight_records(),
        job.table_bodies(),
        job.severe_lines(),
        known_patterns(config.lake, ""),
    )


def _parts(messages: list[Message], lag_from_ms: int) -> tuple[list[Message], list[Message], list[Message]]:
    """Divide messages in order: the first quarter, the rest, and all later logs and metrics."""
    lagging = [m for m in messages if m.topic_kind != "traces" and m.timestamp_ms > lag_from_ms]
    present = [m for m in messages if m.topic_kind == "traces" or m.timestamp_ms <= lag_from_ms]
    quarter = len(present) // 4
    return present[:quarter], present[quarter:], lagging


def _expected_counters(records: Counter[str], sent: list[Sent]) -> dict[str, int]:
    rejected = [fault for piece in sent for fault in piece.garbage.rejected.items()]
    by_reason: Counter[str] = Counter()
    for reason, count in rejected:
        by_reason[f"rejected_{reason}_total"] += count or 1
    return {
        "records_folded_total": records.total() - records["severe"] + sum(piece.garbage.counted for piece in sent),
        "records_rejected_total": sum(count for _, count in rejected),
        "messages_rejected_total": sum(1 for _, count in rejected if not count),
        **by_reason,
    }


def test_a_job_that_cannot_work_or_runs_already_is_refused_with_the_command_that_mends_it(outcome: Outcome) -> None:
    nothing_there, ready, running = outcome.refused
    for wanted in (
        f"has no topic {NAME}-traces, {NAME}-logs, {NAME}-metrics, which the job reads: create it with `reasoner",
        f"has no topic {NAME}-insights, {NAME}-rejected, which the job writes: create it with `reasoner topics create",
        "has no table latency_rollups, service_edges, ",
    ):
        assert wanted in nothing_there
    assert ready == ""
    assert f"job {NAME} is RUNNING on " in running
    assert f"stop it with `reasoner stop {NAME} --target " in running


def test_every_span_is_in_the_rollups_or_rejected(outcome: Outcome) -> None:
    sent = outcome.records["traces"] + sum(piece.garbage.spans for piece in outcome.sent)
    rejected = rejected_records(outcome.letters).total()
    assert outcome.records["traces"] > 200_000
    assert outcome.spans_by_resolution == dict.fromkeys(RESOLUTIONS_S, sent - rejected)


def test_every_line_of_warn_and_up_is_in_a_pattern_or_in_other(outcome: Outcome) -> None:
    """The expected number comes from protobuf's own parser; no broken message holds a severe line that is accepted."""
    assert outcome.records["severe"] > 100
    assert outcome.severe_lines == dict.fromkeys((10, 60), outcome.records["severe"])
    assert sum(pattern.lines for pattern in outcome.patterns) == outcome.records["severe"]
    assert all(pattern.template and not re.search(r"\d", pattern.template) for pattern in outcome.patterns)


def test_each_broken_message_has_dead_letters_with_its_position(outcome: Outcome) -> None:
    found = {piece.garbage.name: rejections_of(outcome.letters, piece) for piece in outcome.sent}
    assert found == {piece.garbage.name: dict(piece.garbage.rejected) for piece in outcome.sent}


def test_nothing_but_garbage_is_rejected(outcome: Outcome) -> None:
    assert len(outcome.letters) == sum(len(piece.garbage.rejected) for piece in outcome.sent)


def test_hostile_input_restarts_nothing(outcome: Outcome) -> None:
    assert outcome.restarts == 0


def test_the_counters_in_rest_are_exact(outcome: Outcome) -> None:
    assert {name: outcome.counters.get(name, 0) for name in outcome.expected_counters} == outcome.expected_counters


def test_what_is_counted_when_windows_end_is_in_rest_too(outcome: Outcome) -> None:
    """PyFlink loses what a timer counts, if nothing is done about it."""
    assert 0 < outcome.counters["insights_emitted_total"] <= len(outcome.insight_records)


def test_exactly_the_planted_incident_is_in_topic_and_table(outcome: Outcome) -> None:
    bodies = sorted(record.value for record in outcome.insight_records)
    assert bodies == outcome.table_bodies
    held = last_revisions(bodies)
    assert demo.faults(PLAN, held, last_revisions(outcome.table_bodies)) == []


def test_a_latency_insight_does_not_wait_for_logs_and_metrics_that_lag_behind(outcome: Outcome) -> None:
    """The results in the end equal those without a lag: `test_exactly_the_planted_incident_is_in_topic_and_table`."""
    assert {insight.kind for insight in last_revisions(outcome.early)} == {"latency_spike"}


def test_tables_were_maintained_under_the_running_job(outcome: Outcome) -> None:
    """All other tests here count the rows of the tables after this maintenance."""
    rollups = next(done for done in outcome.maintained if done.table == "latency_rollups")
    assert rollups.files_after < rollups.files_before
    assert rollups.snapshots_expired > 0


def test_no_revision_is_emitted_twice(outcome: Outcome) -> None:
    ids = [dict(record.headers)["ce_id"] for record in outcome.insight_records]
    assert len(set(ids)) == len(ids) > 0


def test_insights_are_cloud_events_with_the_service_as_key(outcome: Outcome) -> None:
    for record in outcome.insight_records:
        insight = from_json(record.value)
        assert record.key.decode() == f"{insight.env}|shop/{insight.service}"
        assert dict(record.headers) == {
            "ce_specversion": b"1.0",
            "ce_id": f"{insight.insight_id}:{insight.revision}".encode(),
            "ce_source": f"/metric-reasoner/{insight.env}|shop/{insight.service}".encode(),
            "ce_type": b"metric-reasoner.insight.v1",
            "content-type": b"application/json",
        }


def test_dead_letters_hold_length_and_hash_but_no_payload(outcome: Outcome) -> None:
    by_position = {(letter["topic"], letter["partition"], letter["offset"]): letter for letter in outcome.letters}
    for piece in outcome.sent:
        letter = by_position.get((piece.topic, piece.partition, piece.offset))
        if letter is None:
            assert piece.garbage.rejected == {}
            continue
        assert letter["length_bytes"] == len(piece.garbage.value or b"")
        assert len(letter["sha256"]) == 64
        assert "payload" not in json.dumps(letter)
