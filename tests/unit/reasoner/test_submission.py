"""Submission of a job: what is looked at first, and where the job begins."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.transactions import OpenTransaction
from reasoner.errors import CommandFailed, WrongUse
from reasoner.runs import journal, preflight, savepoints
from reasoner.runs import orphans as left
from reasoner.runs.submit import Submission
from state_schemas.contracts.settings import Lake, ReaderConfig, load

JOB = {"jid": "a" * 32, "name": "insights", "state": "RESTARTING", "start-time": 5, "end-time": -1}
ON_DISK = {"execution.checkpointing.dir": "file:///var/checkpoints"}
OLD = {"jid": "b" * 32, "name": "insights", "state": "CANCELED", "start-time": 3, "end-time": 4}
OTHER = {"jid": "c" * 32, "name": "other", "state": "RUNNING", "start-time": 7, "end-time": -1}


class Cluster(FlinkRest):
    """A cluster whose answers are given, in the form of Flink 2.2's. checkpoints: by job id."""

    def __init__(
        self,
        *jobs: dict[str, Any],
        slots: int = 4,
        all_slots: int = 4,
        version: str = "2.2.1",
        config: dict[str, str] | None = None,
        checkpoints: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__("http://flink:8081")
        answers: dict[str, Any] = {
            "/jobs/overview": {"jobs": list(jobs)},
            "/overview": {"slots-available": slots, "slots-total": all_slots, "flink-version": version},
            "/jobmanager/config": [{"key": key, "value": value} for key, value in (config or {}).items()],
        }
        nothing = {"completed": None, "savepoint": None, "restored": None, "failed": None}
        for job_id, latest in (checkpoints or {}).items():
            answers[f"/jobs/{job_id}/checkpoints"] = {"latest": nothing | latest}
        object.__setattr__(self, "get", answers.__getitem__)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the settings of a job whose topics and tables are there."""
    settings = {"uri": f"jdbc:sqlite:{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/warehouse"}
    lake.create_tables(Lake.model_validate(settings))
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"lake": settings}))
    monkeypatch.setattr(preflight, "missing_topics", lambda bootstrap, names: [])
    monkeypatch.setattr(preflight, "SLOTS_DEADLINE_S", 0.0)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return path


def test_a_job_that_can_work_is_not_refused_and_checkpoints_in_the_heap_are_a_note(file: Path) -> None:
    (note,) = Submission("insights", file).preflight(Cluster(OTHER))
    assert "in the heap of the JobManager" in note
    assert Submission("insights", file).preflight(Cluster(OTHER, config=ON_DISK)) == []


def test_where_a_job_begins_is_a_note_where_it_has_run_before(file: Path) -> None:
    again = Cluster(OLD, config=ON_DISK)
    (note,) = Submission("insights", file).preflight(again)
    assert "goes on at the committed offsets, without its models" in note
    (note,) = Submission("insights", file, from_start=True).preflight(again)
    assert "counts twice" in note
    assert Submission("insights", file, "file:///s/1").preflight(again) == []


def test_a_cluster_that_starts_its_task_managers_on_demand_has_no_slots_and_takes_the_job(file: Path) -> None:
    assert Submission("insights", file).preflight(Cluster(slots=0, all_slots=0, config=ON_DISK)) == []
    with pytest.raises(CommandFailed, match="has 0 free slots, expected 2"):
        Submission("insights", file).preflight(Cluster(slots=0, config=ON_DISK))


def test_a_mini_cluster_needs_topics_and_tables_as_well(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Submission("insights", file).preflight_here()
    monkeypatch.setattr(lake, "missing_tables", lambda settings: ["insights"])
    with pytest.raises(CommandFailed, match=r"insights is not submitted:\n  the catalog .* has no table insights"):
        Submission("insights", file).preflight_here()


def test_a_part_of_the_job_needs_only_what_it_reads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def none_missing(bootstrap: str, names: list[str]) -> list[str]:
        asked.extend(names)
        return []

    monkeypatch.setattr(preflight, "missing_topics", none_missing)
    monkeypatch.setattr(lake, "missing_tables", lambda settings: ["error_patterns"])
    assert Submission("latency-spikes", file).preflight(Cluster(config=ON_DISK)) == []
    assert asked == ["trace_events", "insight_out", "insight_rejected"]


def test_brokers_that_need_other_client_settings_are_not_looked_at(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(settings | {"kafka": {"properties": {"security.protocol": "SASL_SSL"}}}))
    monkeypatch.delattr(preflight, "missing_topics")
    (note,) = Submission("insights", file).preflight(Cluster(config=ON_DISK))
    assert note.startswith("topics were not looked at")


def test_a_name_that_runs_or_will_run_again_is_refused(file: Path) -> None:
    with pytest.raises(CommandFailed, match=r"job insights is RESTARTING on http://flink:8081 already \(a{32}\)"):
        Submission("insights", file).preflight(Cluster(JOB, OLD))


def test_all_faults_come_in_one_message(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "missing_topics", lambda bootstrap, names: ["logs_raw", "insight_out"])
    monkeypatch.setattr(lake, "missing_tables", lambda settings: ["insights"])
    with pytest.raises(CommandFailed) as refused:
        Submission("insights", file).preflight(Cluster(slots=1, version="1.20.0"))
    first, *faults = str(refused.value).split("\n  ")
    assert first == "insights is not submitted:"
    for fault, wanted in zip(
        faults,
        (
            "has 1 free slots, expected 2",
            "runs Flink 1.20.0",
            "logs_raw, which",
            "insight_out, which",
            "no table insights",
        ),
        strict=True,
    ):
        assert wanted in fault
    assert all("reasoner" in fault for fault in faults[2:]), "each has the command that mends it"


def test_a_savepoint_and_the_beginning_exclude_each_other(file: Path) -> None:
    with pytest.raises(WrongUse, match="--savepoint and --from-start, expected one of them"):
        Submission("insights", file, "latest", True).check()


def test_the_latest_savepoint_is_that_of_the_journal(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongUse, match=r"no savepoint of insights on http://flink:8081 in .*insights.jsonl"):
        journal.resolved("insights", "http://flink:8081", "latest")
    cluster = Cluster(JOB)
    monkeypatch.setattr(FlinkRest, "at", lambda target: cluster)
    tries = iter((False, True))
    monkeypatch.setattr(FlinkRest, "all_tasks_run", lambda rest, job_id: next(tries, True))
    for number in (1, 2):
        monkeypatch.setattr(FlinkRest, "savepoint", lambda *given, number=number, **named: f"file:///s/{number}")
        assert savepoints.take("insights", "http://flink:8081", "") == f"file:///s/{number}"
    assert journal.resolved("insights", "http://flink:8081", "latest") == "file:///s/2"
    assert journal.resolved("insights", "http://flink:8081", "s3://b/x") == "s3://b/x"
    with pytest.raises(WrongUse, match="on http://production:8081"):  # of another cluster
        journal.resolved("insights", "http://production:8081", "latest")
    assert [entry.job_id for entry in journal.savepoints("insights")] == ["a" * 32] * 2
    assert journal.savepoints("other") == []


def test_a_job_that_does_not_run_has_no_savepoint_and_those_that_run_are_named() -> None:
    with pytest.raises(CommandFailed, match="no job named insights runs on http://flink:8081; there run other;"):
        savepoints.running(Cluster(OLD, OTHER), "insights")
    with pytest.raises(CommandFailed, match="2 jobs named insights run"):
        savepoints.running(Cluster(JOB, JOB | {"jid": "d" * 32}), "insights")


def open_one(checkpoint: int, started_ms: int = 4) -> OpenTransaction:
    return OpenTransaction(f"insights-insight_out-0-{checkpoint}", checkpoint, ("insight_out",), started_ms)


@pytest.mark.parametrize(
    ("cluster", "orphans"),
    [
        (Cluster(OLD, checkpoints={"b" * 32: {"completed": {"id": 6}}}), [7, 8]),
        (Cluster(OLD, checkpoints={"b" * 32: {"completed": {"id": 6}, "savepoint": {"id": 7}}}), [8]),
        (Cluster(OLD, checkpoints={"b" * 32: {"restored": {"id": 7}}}), [8]),
        (Cluster(OLD, checkpoints={"b" * 32: {}}), []),
        (Cluster(OTHER), []),
        (Cluster(OLD, JOB), []),
    ],
    ids=["behind-the-checkpoint", "a-savepoint", "restored", "failed-at-start", "not-known-here", "runs-again"],
)
def test_only_transactions_behind_the_last_checkpoint_of_an_ended_job_are_orphans(
    file: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster, orphans: list[int]
) -> None:
    """A job that failed at its start had no checkpoint: the open ones are of the job before it."""
    monkeypatch.setattr(
        left, "open_transactions", lambda config: [open_one(6), open_one(7), open_one(8), open_one(9, 5)]
    )
    found = left.left_open(load(file, ReaderConfig), cluster)
    assert [one.checkpoint for one in found.orphans] == orphans, (
        "the last began after the job had ended: of another one"
    )
    assert len(found.orphans) + len(found.kept) == 4
    assert found.why
