"""The uids of the job are a contract: Flink assigns the state of a savepoint by uid."""

import pytest

from jobs.graph import JOBS
from tests.flink.conftest import Replays

pytestmark = pytest.mark.flink

SIGNALS = ("traces", "logs", "metrics")
TABLES = tuple(
    f"lake.insights.{name}"
    for name in (
        "latency_rollups",
        "service_edges",
        "error_patterns",
        "pattern_registry",
        "insights",
        "sequence_matches",
    )
)
TOPICS = ("kafka-insights", "kafka-dead-letters")
INSERTS = (
    *("lake-rollups", "lake-edges", "lake-patterns", "lake-pattern-names", "lake-insights", "lake-sequence-matches"),
    *TOPICS,
)
STATEFUL_OR_NAMED = {
    *(f"source-{signal}-stream-exec-table-source-scan_source" for signal in SIGNALS),
    *(f"source-{signal}-stream-exec-calc_calc" for signal in SIGNALS),
    *(f"source-{signal}-stream-exec-sink_external-datastream" for signal in SIGNALS),
    *(f"fold-{signal}" for signal in SIGNALS),
    *("pre-aggregate-traces", "pre-aggregate-logs", "pre-aggregate-metrics", "call-pairs"),
    *("latency-spike", "error-patterns", "error-patterns-traces", "novelty", "novelty-traces"),
    *("request-effects", "log-silence", "telemetry-gap", "deploys", "rule-signals", "sequences", "record-sequences"),
    *(f"{insert}-stream-exec-table-source-scan_source" for insert in INSERTS),
    *(f"{insert}-stream-exec-calc_calc" for insert in INSERTS),
    *(f"{topic}-stream-exec-sink_sink" for topic in TOPICS),
    *(f"Sink Committer: {topic}-stream-exec-sink_sink" for topic in TOPICS),
    *TABLES,
    *(f"{table}: Sink pre-commit aggregator: {table}" for table in TABLES),
    *(f"Sink Committer: {table}" for table in TABLES),
}


def test_uids_are_those_that_savepoints_were_written_with(replays: Replays) -> None:
    uids: dict[str, list[str]] = {job: [] for job in JOBS}
    for operator in replays.operators:
        uids[operator["job"]].append(operator["uid"])
    assert sorted(uids["insights"]) == sorted(STATEFUL_OR_NAMED)
    of_insights = {uid for uid in uids["sequence-rules"] if "insights-" in uid and uid.startswith("source-")}
    assert {"sequences", "read-insights"} <= set(uids["sequence-rules"])
    assert set(uids["sequence-rules"]) - STATEFUL_OR_NAMED == {"read-insights", *of_insights}
    for job, stage, table in (
        ("latency-spikes", "latency-spike", "lake.insights.latency_rollups"),
        ("error-patterns", "error-patterns", "lake.insights.error_patterns"),
    ):
        assert {stage, table} <= set(uids[job]) < STATEFUL_OR_NAMED, f"{job} alone must continue a savepoint of all"
