"""Uneven topics: results of traces wait for no other topic, and a partition without messages delays no insight."""

from pathlib import Path

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import last_revisions
from reasoner.recordings.player import play
from reasoner.runs import demo
from reasoner.traffic import shop
from reasoner.waiting import wait_until
from tests.services.conftest import FlinkCluster, PostgresUrls
from tests.services.job_runs import ClusterJob, database, job_config, topics_in
from tests.support.reshaped import spread

pytestmark = pytest.mark.services

NAME = "skew"
PARTITIONS = 2
START_MS = 1_700_000_000_000
SEED = 12  # plants an incident in which a whole service is slow


def test_a_latency_insight_does_not_wait_for_logs_and_metrics_that_lag_behind(
    kafka: str, postgres: PostgresUrls, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """Logs and metrics have their first minute only, and no partition is marked idle (idle_ms 0)."""
    jdbc = database(postgres.sqlalchemy, postgres.jdbc, NAME)
    job = ClusterJob(job_config(NAME, kafka, jdbc, tmp_path), FlinkRest(flink_cluster.rest_url), tmp_path)
    job.prepare(PARTITIONS)
    plan = demo.plan(SEED, True, START_MS)
    messages = list(spread(shop.messages(plan.seed, plan.start_ms, demo.DURATION_MS, plan.incident), PARTITIONS, 1))
    lagging = [m for m in messages if m.topic_kind != "traces" and m.timestamp_ms > plan.start_ms + 60_000]
    present = [m for m in messages if m.topic_kind == "traces" or m.timestamp_ms <= plan.start_ms + 60_000]
    topics = topics_in(job.config)
    job = job.started()

    play(present, kafka, topics)
    wait_until(
        lambda: bool(job.insight_records()), "a latency insight while logs are at their first minute", 120.0, 1.0
    )
    early = [record.value for record in job.insight_records()]
    assert {insight.kind for insight in last_revisions(early)} == {"latency_spike"}

    play(lagging, kafka, topics)
    job.wait_until_read()
    job.drain()
    held = last_revisions(record.value for record in job.insight_records())
    assert demo.faults(plan, held, last_revisions(job.table_bodies())) == [], (
        "the results in the end must equal those without a lag"
    )


def test_a_partition_without_messages_delays_no_insight(
    kafka: str, postgres: PostgresUrls, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """The last of three partitions of each topic gets no message; the results equal those of an even run."""
    name = "silent"
    config = job_config(name, kafka, database(postgres.sqlalchemy, postgres.jdbc, name), tmp_path)
    config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"idle_ms": 10_000})})
    job = ClusterJob(config, FlinkRest(flink_cluster.rest_url), tmp_path)
    job.prepare(PARTITIONS + 1)
    plan = demo.plan(SEED, True, START_MS)
    messages = spread(shop.messages(plan.seed, plan.start_ms, demo.DURATION_MS, plan.incident), PARTITIONS, 1)
    play(messages, kafka, topics_in(job.config))
    job = job.started()
    wait_until(lambda: bool(job.insight_records()), "an insight beside a silent partition", 120.0, 1.0)
    job.wait_until_read()
    job.drain()
    held = last_revisions(record.value for record in job.insight_records())
    assert demo.faults(plan, held, last_revisions(job.table_bodies())) == []
