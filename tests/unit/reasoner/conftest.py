"""The settings of a job that can be submitted, and a cluster on which it runs."""

from itertools import count
from pathlib import Path

import pytest
import yaml

from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.runs import preflight
from state_schemas.contracts.settings import Lake
from tests.support.answering_cluster import JOB, Cluster


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return a cluster whose running job saves into file:///s/1, file:///s/2, ..., and at its end into file:///s/end."""
    cluster = Cluster(JOB)
    monkeypatch.setattr(FlinkRest, "at", lambda target: cluster)
    tries, numbers = iter((False, True)), count(1)
    monkeypatch.setattr(FlinkRest, "all_tasks_run", lambda rest, job_id: next(tries, True))
    monkeypatch.setattr(FlinkRest, "savepoint", lambda *given, **named: f"file:///s/{next(numbers)}")
    monkeypatch.setattr(FlinkRest, "stop", lambda *given, **named: "file:///s/end")
    monkeypatch.setattr(FlinkRest, "jobs", lambda rest: {})
    return cluster
