"""Upgrade of a running job and the way back: what is refused before anything is stopped."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest, JobInfo
from reasoner.errors import CommandFailed
from reasoner.runs import journal, operator_owned, preflight, savepoints, upgrade
from reasoner.runs.submit import Submission, package_version
from reasoner.runs.upgrade import Rollback

URL = "http://flink:8081"
OLD, NEW = "a" * 32, "b" * 32
SAVEPOINT = "s3://bucket/savepoint-1"
SASL = {"sasl.jaas.config": "PlainLoginModule required password='planted';"}


class Cluster(FlinkRest):
    """A cluster with these jobs (id -> state) and numbers of completed checkpoints; it records what is cancelled."""

    def __init__(self, states: dict[str, str], checkpoints: dict[str, int] | None = None) -> None:
        super().__init__(URL)
        object.__setattr__(self, "states", states)
        object.__setattr__(self, "done", checkpoints or {})

    def overview(self) -> list[JobInfo]:
        return [JobInfo(job_id, "insights", state, 1, -1) for job_id, state in self.jobs().items()]

    def jobs(self) -> dict[str, str]:
        return dict(vars(self)["states"])

    def completed_checkpoints(self, job_id: str) -> int:
        return int(vars(self)["done"].get(job_id, 0))

    def cancel(self, job_id: str, *, deadline_s: float) -> None:
        vars(self)["states"][job_id] = "CANCELED"

    def all_tasks_run(self, job_id: str) -> bool:
        return True

    def restarts(self, job_id: str) -> int:
        return 0

    def used_slots(self, job_id: str) -> int:
        return 2

    def max_parallelism(self, job_id: str) -> int:
        return 720

    def settings(self) -> dict[str, str]:
        return dict(vars(self).get("given_settings", {}))

    def failure(self, job_id: str) -> str:
        return "AssertionError: state of version 9"

    def get(self, path: str) -> Any:
        free = 0 if any(job.is_active for job in self.overview()) else 2
        return {"/overview": {"slots-available": free, "slots-total": 2, "flink-version": "2.2.1"}}[path]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the settings of a job whose topics and tables are there; the journal is a temporary one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(preflight, "missing_topics", lambda bootstrap, names: [])
    monkeypatch.setattr(preflight, "transaction_timeout_ms_max", lambda bootstrap: 900_000)
    monkeypatch.setattr(lake, "missing_tables", lambda settings: [])
    monkeypatch.setattr(upgrade, "end_orphans", lambda config, rest: [])
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"lake": {"uri": "jdbc:sqlite:/c.db", "warehouse": "file:///w"}}))
    return path


def start(
    job_id: str, settings: str, *, job: str = "insights", replaces: str = "", savepoint: str = "", version: str = ""
) -> None:
    what = (job, version or package_version(), settings, savepoint, replaces)
    journal.check("insights")
    journal.record("insights", journal.Start("then", URL, job_id, *what))


def submitting(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, job_id: str, state: str) -> list[Submission]:
    """Let the cluster take what is submitted, as a job in this state with a checkpoint; return the list of it."""
    asked: list[Submission] = []
    vars(cluster)["savepoint_folders"] = folders = list[str]()

    def submit(submission: Submission, target: str) -> str:
        asked.append(submission)
        vars(cluster)["states"][job_id] = state
        vars(cluster)["done"][job_id] = 1
        return job_id

    def stop(name: str, target: str, folder: str, *, drain: bool) -> str:
        folders.append(folder)
        vars(cluster)["states"][OLD] = "FINISHED"
        return SAVEPOINT

    monkeypatch.setattr(Submission, "submit", submit)
    monkeypatch.setattr(savepoints, "stop", stop)
    return asked


def test_an_upgrade_goes_on_from_the_savepoint_of_the_job_that_it_stops(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(OLD, file.read_text())
    cluster = Cluster({OLD: "RUNNING"})
    submitted = submitting(monkeypatch, cluster, NEW, "RUNNING")
    said: list[str] = []
    assert upgrade.upgrade(file, cluster, "", said.append) == NEW
    assert said == [f"go back with: reasoner rollback insights --target {URL}"]
    assert [asked.savepoint for asked in submitted] == [SAVEPOINT]
    last = journal.starts("insights", URL)[-1]
    assert (last.job_id, last.replaces, last.savepoint, last.settings) == (NEW, OLD, SAVEPOINT, file.read_text())


@pytest.mark.parametrize(
    ("flink", "folder"),
    [({}, "s3://state"), ({"execution.checkpointing.savepoint-dir": "s3://saved"}, "s3://saved")],
    ids=["checkpoint-dir", "savepoint-dir"],
)
def test_an_application_is_stopped_with_a_savepoint_and_the_next_step_is_said(
    file: Path, monkeypatch: pytest.MonkeyPatch, flink: dict[str, str], folder: str
) -> None:
    settings: dict[str, Any] = {"lake": {"uri": "jdbc:sqlite:/c.db", "warehouse": "s3://w"}}
    settings["kafka"] = {"properties": SASL}  # no matter here: nothing of it leaves this machine
    settings["engine"] = {"checkpoint_dir": "s3://state", "flink": flink}
    file.write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("REASONER_TOOLS", str(file.parent))
    cluster = Cluster({OLD: "RUNNING"})
    vars(cluster)["given_settings"] = {"execution.target": "embedded", "kubernetes.cluster-id": "insights"}
    submitted = submitting(monkeypatch, cluster, NEW, "RUNNING")
    with pytest.raises(CommandFailed, match=f"start the cluster again .* `--fromSavepoint {SAVEPOINT}`"):
        upgrade.upgrade(file, cluster, "", lambda line: None)
    assert (submitted, cluster.jobs()) == ([], {OLD: "FINISHED"})
    assert vars(cluster)["savepoint_folders"] == [folder], "no journal has the settings of its job"


def test_an_application_in_kubernetes_is_left_to_its_operator(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({OLD: "RUNNING"})
    vars(cluster)["given_settings"] = dict.fromkeys((operator_owned._MARK, operator_owned._APPLICATION), "x")
    monkeypatch.setattr(FlinkRest, "at", lambda target: cluster)
    for command in (
        lambda: upgrade.upgrade(file, cluster, "", print),
        lambda: upgrade.Rollback.of("insights", cluster),
        lambda: savepoints.stop("insights", URL, "", drain=True),
    ):
        with pytest.raises(CommandFailed, match="is of Flink's Kubernetes operator"):
            command()
    assert cluster.jobs() == {OLD: "RUNNING"}


@pytest.mark.parametrize(
    ("engine", "fault"),
    [
        ({"parallelism": 3}, "has 2 slots for it, expected 3"),
        ({"max_parallelism": 128}, "engine.max_parallelism is 128, expected 720 as in the running job"),
    ],
)
def test_what_cannot_go_on_is_refused_before_the_running_job_is_stopped(
    file: Path, monkeypatch: pytest.MonkeyPatch, engine: dict[str, int], fault: str
) -> None:
    start(OLD, file.read_text())
    monkeypatch.delattr(savepoints, "stop")
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"engine": engine}))
    with pytest.raises(CommandFailed, match=fault):
        upgrade.upgrade(file, Cluster({OLD: "RUNNING"}), "", print)


def test_without_flink_here_a_job_on_s3_is_upgraded_by_rest_unless_its_settings_have_secrets(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONER_TOOLS", str(file.parent))
    settings = {"lake": {"uri": "jdbc:sqlite:/c.db", "warehouse": "s3://w"}}
    file.write_text(yaml.safe_dump(settings | {"kafka": {"properties": SASL}}))
    cluster = Cluster({OLD: "RUNNING"})
    submitted = submitting(monkeypatch, cluster, NEW, "RUNNING")
    with pytest.raises(CommandFailed, match=r"kafka.properties.sasl.jaas.config would be an argument") as refused:
        upgrade.upgrade(file, cluster, "", print)
    assert "planted" not in str(refused.value)
    assert cluster.jobs() == {OLD: "RUNNING"}
    provided = dict.fromkeys(SASL, "${file:/run/secrets/kafka.properties:jaas}")
    file.write_text(yaml.safe_dump(settings | {"kafka": {"properties": provided}}))
    upgrade.upgrade(file, cluster, "", print)
    assert len(submitted) == 1


def test_another_job_under_the_name_is_refused_and_the_running_one_is_the_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(OLD, file.read_text(), job="latency-spikes")
    cluster = Cluster({OLD: "RUNNING"})
    submitted = submitting(monkeypatch, cluster, NEW, "RUNNING")
    with pytest.raises(CommandFailed, match="job latency-spikes runs under this name, found insights"):
        upgrade.upgrade(file, cluster, "insights", print)
    upgrade.upgrade(file, cluster, "", print)
    assert [asked.job for asked in submitted] == ["latency-spikes"]


def test_a_job_that_fails_says_why_and_can_be_rolled_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(OLD, file.read_text())
    cluster, said = Cluster({OLD: "RUNNING"}), list[str]()
    submitting(monkeypatch, cluster, NEW, "FAILED")
    with pytest.raises(CommandFailed, match=f"{NEW} does not work: AssertionError: state of version 9"):
        upgrade.upgrade(file, cluster, "", said.append)
    assert "reasoner rollback insights" in said[0]
    vars(cluster)["done"][NEW] = 0
    assert Rollback.of("insights", cluster).faults(count_twice=False) == []


def test_an_upgrade_that_the_cluster_refuses_says_why_and_can_be_rolled_back(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(OLD, file.read_text())
    cluster = Cluster({OLD: "RUNNING"})
    submitting(monkeypatch, cluster, NEW, "RUNNING")
    taken = Submission.submit

    def refused(submission: Submission, target: str) -> str:
        message = "the cluster did not take the job: Cannot map savepoint state"
        raise CommandFailed(message)

    monkeypatch.setattr(Submission, "submit", refused)
    with pytest.raises(CommandFailed, match="Cannot map savepoint state"):
        upgrade.upgrade(file, cluster, "", print)
    assert cluster.jobs()[OLD] == "FINISHED"
    monkeypatch.setattr(Submission, "submit", taken)
    back = Rollback.of("insights", cluster)
    assert (back.before.job_id, back.upgraded.savepoint) == (OLD, SAVEPOINT)
    assert back.run(count_twice=False) == NEW


def test_the_way_back_of_a_job_that_the_journal_lacks_is_its_savepoint(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, said = Cluster({OLD: "RUNNING"}), list[str]()
    submitting(monkeypatch, cluster, NEW, "RUNNING")
    upgrade.upgrade(file, cluster, "", said.append)
    assert f"--savepoint {SAVEPOINT}" in said[0]


def test_a_rollback_restores_savepoint_and_settings_of_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(OLD, file.read_text())
    start(NEW, "name: other", replaces=OLD, savepoint=SAVEPOINT)
    cluster = Cluster({NEW: "RESTARTING"})
    submitted = submitting(monkeypatch, cluster, "c" * 32, "RUNNING")
    monkeypatch.setattr(lake, "missing_tables", lambda settings: ["insights"])
    with pytest.raises(CommandFailed, match="has no table insights"):
        Rollback.of("insights", cluster).run(count_twice=False)
    assert cluster.jobs()[NEW] == "RESTARTING", "nothing is stopped where the job before could not run"
    monkeypatch.setattr(lake, "missing_tables", lambda settings: [])
    assert Rollback.of("insights", cluster).run(count_twice=False) == "c" * 32
    assert cluster.jobs()[NEW] == "CANCELED"
    (asked,) = submitted
    assert (asked.savepoint, asked.file.read_text()) == (SAVEPOINT, file.read_text())
    assert asked.file.stat().st_mode & 0o077 == 0, "settings can hold a password"
    with pytest.raises(CommandFailed, match="was no upgrade: there is nothing to go back to"):
        Rollback.of("insights", cluster)  # once is enough


def test_a_rollback_says_all_that_is_missing(file: Path, tmp_path: Path) -> None:
    start(OLD, file.read_text(), version="0.0.9")
    start(NEW, file.read_text(), replaces=OLD, savepoint=f"file://{tmp_path}/gone")
    cluster = Cluster({NEW: "RUNNING", "c" * 32: "RUNNING"}, {NEW: 4})
    with pytest.raises(CommandFailed) as refused:
        Rollback.of("insights", cluster).run(count_twice=False)
    found = str(refused.value).split("\n  ")
    wanted = (
        "expected 0.0.9",
        "/gone is not there any more",
        "is not of the upgrade",
        "committed 4 checkpoints since then",
    )
    assert len(found) == 1 + len(wanted)
    assert all(part in line for part, line in zip(wanted, found[1:], strict=True))
    assert len(Rollback.of("insights", cluster).faults(count_twice=True)) == 3


def test_without_the_settings_of_before_a_rollback_names_what_a_person_needs(file: Path) -> None:
    start(NEW, file.read_text(), replaces=OLD, savepoint=SAVEPOINT)
    with pytest.raises(CommandFailed, match=f"--savepoint {SAVEPOINT}"):
        Rollback.of("insights", Cluster({}))
