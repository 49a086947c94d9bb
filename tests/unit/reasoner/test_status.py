"""Lines of a job's status from the answers of Flink and Kafka."""

from typing import Any

import pytest
from kafka import TopicPartition

from reasoner.clients.flink_rest import FlinkRest, JobInfo
from reasoner.errors import CommandFailed
from reasoner.runs import status
from state_schemas.contracts.settings import ReaderConfig

NOW_MS = 1_790_000_000_000
CONFIG = ReaderConfig.model_validate(
    {
        "kafka": {"topics": {"logs": "", "metrics": ""}},
        "lake": {"uri": "jdbc:sqlite:/x", "warehouse": "file:///x"},
    }
)


class Cluster(FlinkRest):
    """A cluster with one job, whose checkpoints are given in the form of Flink 2.2."""

    def __init__(self, last: dict[str, Any] | None, state: str = "RUNNING") -> None:
        super().__init__("http://f:1")
        answer = {"counts": {"completed": 7, "failed": 1}, "latest": {"completed": last}}
        counters = {"records_folded_total": 12_345, "lines_cut_total": 3}
        for name, found in (
            ("get", lambda path: answer),
            ("overview", lambda: [JobInfo("a" * 32, "insights", state, NOW_MS - 600_000, -1)]),
            ("restarts", lambda job_id: 2),
            ("counters", lambda job_id: counters),
        ):
            object.__setattr__(self, name, found)


@pytest.fixture(autouse=True)
def offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = TopicPartition("trace_events", 0), TopicPartition("trace_events", 1)
    monkeypatch.setattr(status, "end_offsets", lambda bootstrap, topics: {first: 100, second: 50})
    monkeypatch.setattr(status, "committed_offsets", lambda bootstrap, group: {first: 90})


def test_a_status_has_state_checkpoints_unread_messages_and_what_is_beyond_a_limit() -> None:
    last = {"latest_ack_timestamp": NOW_MS - 12_000, "end_to_end_duration": 1_500, "state_size": 2_500_000}
    assert list(status.status_lines(CONFIG, Cluster(last), NOW_MS)) == [
        f"insights: RUNNING for 10 min on http://f:1 ({'a' * 32})",
        "restarts: 2",
        "checkpoints: 7 complete, 1 failed; the last 12 s ago, in 1.5 s, 2.5 MB",
        "trace_events: 60 messages behind the last checkpoint",
        "records_folded_total 12,345, records_late_total 0, records_rejected_total 0, insights_emitted_total 0",
        "beyond a limit: lines_cut_total 3; see docs/sizing.md",
    ]


def test_before_the_first_checkpoint_nothing_is_visible() -> None:
    lines = list(status.status_lines(CONFIG, Cluster(None), NOW_MS))
    assert lines[2] == "checkpoints: 7 complete, 1 failed; insights become visible with the first"


def test_a_job_that_does_not_run_has_no_status() -> None:
    with pytest.raises(CommandFailed, match="no job named insights runs"):
        list(status.status_lines(CONFIG, Cluster(None, "FAILED"), NOW_MS))
