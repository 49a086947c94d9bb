"""Ways of a job to a cluster: what each needs on this machine, and what is done where the cluster does not answer."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest, NoAnswer
from reasoner.errors import CommandFailed
from reasoner.runs import preflight, submit
from reasoner.runs.submit import Submission
from tests.support import answering_cluster

JOB = answering_cluster.JOB | {"state": "CREATED"}


class Cluster(answering_cluster.Cluster):
    """A cluster with free slots, on which the job has run before."""

    def __init__(self) -> None:
        super().__init__(answering_cluster.OLD)

    def waiting(self, timeout_s: float) -> FlinkRest:
        return self


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the settings of a job whose topics and tables are there."""
    monkeypatch.setattr(preflight, "missing_topics", lambda bootstrap, names: [])
    monkeypatch.setattr(preflight, "transaction_timeout_ms_max", lambda bootstrap: 900_000)
    monkeypatch.setattr(lake, "missing_tables", lambda settings: [])
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"lake": {"uri": "jdbc:sqlite:/c.db", "warehouse": "file:///w"}}))
    return path


def test_by_rest_a_job_on_s3_needs_no_jar_here(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program opens the tables beside the JobManager. An upgrade by REST had no way around this check."""
    file.write_text(yaml.safe_dump({"lake": {"uri": "jdbc:sqlite:/c.db", "warehouse": "s3://bucket"}}))
    flink = file.parent / "flink"
    (flink / "lib").mkdir(parents=True)
    monkeypatch.setattr(preflight, "flink_home", lambda: flink)
    Submission("insights", file, by="rest").preflight(Cluster())
    with pytest.raises(CommandFailed, match="iceberg-aws-bundle"):
        Submission("insights", file, by="client").preflight(Cluster())


@pytest.mark.parametrize(
    ("section", "secret"),
    [
        ("kafka", "sasl.jaas.config"),
        ("kafka", "ssl.key.password"),
        ("lake", "s3.session-token"),
        ("lake", "adls.sas-token.name"),
    ],
)
def test_no_secret_becomes_an_argument_of_a_process_beside_the_jobmanager(
    file: Path, monkeypatch: pytest.MonkeyPatch, section: str, secret: str
) -> None:
    cluster = Cluster()
    monkeypatch.setattr(FlinkRest, "at", lambda target: cluster)
    monkeypatch.delattr(submit, "run_program")
    settings: dict[str, Any] = yaml.safe_load(file.read_text())
    settings[section] = settings.get(section, {}) | {"properties": {secret: "planted", "token-refresh-enabled": "a"}}
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(CommandFailed, match=rf"{section}\.properties\.{secret} would be an argument") as refused:
        Submission("insights", file, by="rest").submit("flink:8081")
    assert "planted" not in str(refused.value)
    assert "token-refresh" not in str(refused.value)


@pytest.mark.parametrize("comes", [True, False])
def test_a_job_whose_start_was_not_answered_in_time_is_looked_for(
    file: Path, monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    cluster = Cluster()

    def no_answer(*given: Any) -> str:
        cluster.get("/jobs/overview")["jobs"].extend([JOB] if comes else [])
        message = "no answer within 180 s"
        raise NoAnswer(message)

    monkeypatch.setattr(FlinkRest, "at", lambda target: cluster)
    monkeypatch.setattr(submit, "run_program", no_answer)
    monkeypatch.setattr(submit, "LATE_DEADLINE_S", 0.0)
    asked = Submission("insights", file, by="rest")
    if comes:
        assert asked.submit("flink:8081") == JOB["jid"]
    else:
        with pytest.raises(CommandFailed, match="no answer within 180 s; no job insights has come"):
            asked.submit("flink:8081")
