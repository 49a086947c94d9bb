"""Submission of a job: what is looked at first, and where the job begins."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed, WrongUse
from reasoner.runs import journal, preflight, savepoints
from reasoner.runs.submit import Submission
from state_schemas.contracts.settings import Lake

JOB = {"jid": "a" * 32, "name": "insights", "state": "RESTARTING", "start-time": 5}
OLD = {"jid": "b" * 32, "name": "insights", "state": "CANCELED", "start-time": 9}
OTHER = {"jid": "c" * 32, "name": "other", "state": "RUNNING", "start-time": 7}


class Cluster(FlinkRest):
    """A cluster whose answers are given. They have the form of Flink 2.2's."""

    def __init__(self, *jobs: dict[str, Any], slots: int = 4, version: str = "2.2.1", **config: str) -> None:
        super().__init__("http://flink:8081")
        answers = {
            "/jobs/overview": {"jobs": list(jobs)},
            "/overview": {"slots-available": slots, "flink-version": version},
            "/jobmanager/config": [{"key": key.replace("_", "."), "value": value} for key, value in config.items()],
        }
        object.__setattr__(self, "get", answers.__getitem__)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the settings of a job whose topics and tables are there."""
    settings = {"uri": f"jdbc:sqlite:{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/warehouse"}
    lake.create_tables(Lake.model_validate(settings))
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"lake": settings}))
    monkeypatch.setattr(preflight, "missing_topics", lambda bootstrap, names: [])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return path


def test_a_job_that_can_work_is_not_refused_and_checkpoints_in_the_heap_are_a_note(file: Path) -> None:
    (note,) = Submission("insights", file).preflight(Cluster(OLD, OTHER))
    assert "in the heap of the JobManager" in note
    on_disk = Cluster(OLD, OTHER, execution_checkpointing_dir="file:///var/checkpoints")
    assert Submission("insights", file).preflight(on_disk) == []


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
    with pytest.raises(WrongUse, match=r"no savepoint of insights in .*insights.jsonl"):
        journal.resolved("insights", "latest")
    cluster = Cluster(JOB)
    monkeypatch.setattr(FlinkRest, "at", lambda target: cluster)
    for number in (1, 2):
        monkeypatch.setattr(FlinkRest, "savepoint", lambda *given, number=number, **named: f"file:///s/{number}")
        assert savepoints.take("insights", "http://flink:8081", "") == f"file:///s/{number}"
    assert journal.resolved("insights", "latest") == "file:///s/2"
    assert journal.resolved("insights", "s3://b/x") == "s3://b/x"
    assert [entry.job_id for entry in journal.savepoints("insights")] == ["a" * 32] * 2
    assert journal.savepoints("other") == []


def test_a_job_that_does_not_run_has_no_savepoint_and_those_that_run_are_named() -> None:
    with pytest.raises(CommandFailed, match="no job named insights runs on http://flink:8081; there run other;"):
        savepoints.running(Cluster(OLD, OTHER), "insights")
    with pytest.raises(CommandFailed, match="2 jobs named insights run"):
        savepoints.running(Cluster(JOB, JOB | {"jid": "d" * 32}), "insights")
