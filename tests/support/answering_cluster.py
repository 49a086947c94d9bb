"""A Flink cluster whose answers are given, and the settings of a job that can be submitted to it."""

from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.runs import preflight
from state_schemas.contracts.settings import Lake

JOB: Final = {"jid": "a" * 32, "name": "insights", "state": "RESTARTING", "start-time": 5, "end-time": -1}
OLD: Final = {"jid": "b" * 32, "name": "insights", "state": "CANCELED", "start-time": 3, "end-time": 4}
OTHER: Final = {"jid": "c" * 32, "name": "other", "state": "RUNNING", "start-time": 7, "end-time": -1}


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


def settings_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the settings of a job whose topics and tables are there."""
    settings = {"uri": f"jdbc:sqlite:{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/warehouse"}
    lake.create_tables(Lake.model_validate(settings))
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"lake": settings}))
    monkeypatch.setattr(preflight, "missing_topics", lambda bootstrap, names: [])
    monkeypatch.setattr(preflight, "transaction_timeout_ms_max", lambda bootstrap: 900_000)
    monkeypatch.setattr(preflight, "SLOTS_DEADLINE_S", 0.0)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return path


def saving_cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return a cluster whose running job saves into file:///s/1, file:///s/2, ..., and at its end into file:///s/end."""
    cluster = Cluster(JOB)
    monkeypatch.setattr(FlinkRest, "at", lambda target: cluster)
    tries, numbers = iter((False, True)), count(1)
    monkeypatch.setattr(FlinkRest, "all_tasks_run", lambda rest, job_id: next(tries, True))
    monkeypatch.setattr(FlinkRest, "savepoint", lambda *given, **named: f"file:///s/{next(numbers)}")
    monkeypatch.setattr(FlinkRest, "stop", lambda *given, **named: "file:///s/end")
    monkeypatch.setattr(FlinkRest, "jobs", lambda rest: {})
    return cluster


def points(**ids: int) -> dict[str, dict[str, Any]]:
    """Return the newest points of a job by kind, as Flink names them."""
    return {kind: {"id": number, "external_path": f"file:///c/{number}"} for kind, number in ids.items()}
