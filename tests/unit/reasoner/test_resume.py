"""Where a job goes on: what its last run, or a cluster that has forgotten it, has left."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed, WrongUse
from reasoner.runs import journal, resume, savepoints
from reasoner.runs.submit import Submission
from tests.support.answering_cluster import JOB, OLD, Cluster, points

NORMAL = FlinkRest.at("LocalHost:8081/").url


@pytest.mark.parametrize(
    ("latest", "wanted"),
    [
        (points(completed=9, savepoint=8), "file:///c/9"),
        (points(completed=8, savepoint=9), "file:///c/9"),
        (points(restored=7), "file:///c/7"),
        (points(completed=9, restored=7), "file:///c/9"),
    ],
    ids=["checkpoint", "savepoint", "failed-before-its-first-checkpoint", "after-a-restore"],
)
def test_a_job_that_was_cancelled_goes_on_from_its_newest_point(
    file: Path, latest: dict[str, dict[str, Any]], wanted: str
) -> None:
    cancelled = Cluster(JOB | {"state": "CANCELED"}, checkpoints={"a" * 32: latest})
    assert resume.point(Submission("insights", file).check(), cancelled, "latest") == wanted


def test_a_run_that_failed_before_it_had_a_point_is_passed_over(file: Path, saved: Cluster) -> None:
    savepoints.stop("insights", saved.url, "", drain=False)
    failed = JOB | {"jid": "f" * 32, "state": "FAILED", "start-time": 9}
    stopped = JOB | {"state": "FINISHED"}
    config = Submission("insights", file).check()
    assert resume.point(config, Cluster(stopped, failed, checkpoints={"f" * 32: {}}), "latest") == "file:///s/end"
    worked = Cluster(stopped, failed, checkpoints={"f" * 32: points(restored=4)})
    assert resume.point(config, worked, "latest") == "file:///c/4"
    refused = ("insights", "0.1.0", "", "file:///s/end", "a" * 32)
    journal.record("insights", journal.Start(journal.now(), saved.url, journal.REFUSED, *refused))
    assert resume.point(config, Cluster(), "latest") == "file:///s/end"


def test_a_checkpoint_in_the_heap_of_the_job_manager_is_not_replaced_by_an_older_savepoint(file: Path) -> None:
    in_heap = {"completed": {"id": 9, "external_path": "<checkpoint-not-externally-addressable>"}}
    cancelled = Cluster(JOB | {"state": "CANCELED"}, checkpoints={"a" * 32: points(savepoint=8) | in_heap})
    with pytest.raises(WrongUse, match=r"the last checkpoint of job a{32} is not known here"):
        resume.point(Submission("insights", file).check(), cancelled, "latest")


def test_a_job_that_was_stopped_goes_on_from_its_savepoint_alone(file: Path, saved: Cluster) -> None:
    config = Submission("insights", file).check()
    assert savepoints.take("insights", saved.url, "") == "file:///s/1"
    stopped = Cluster(JOB | {"state": "FINISHED"}, checkpoints={"a" * 32: points(completed=3, savepoint=4)})
    with pytest.raises(WrongUse, match=r"stopped by another command; unless it was drained, give file:///c/4"):
        resume.point(config, stopped, "latest")
    assert savepoints.stop("insights", saved.url, "", drain=False) == "file:///s/end"
    assert resume.point(config, stopped, "latest") == resume.point(config, Cluster(), "latest") == "file:///s/end"
    assert resume.point(config, stopped, "s3://b/x") == "s3://b/x"
    journal.record("insights", journal.Drained(journal.now(), saved.url, "a" * 32))
    with pytest.raises(WrongUse, match="was drained, so nothing goes on from it"):
        resume.point(config, Cluster(), "latest")


def test_a_cluster_that_has_forgotten_the_job_has_its_checkpoints_on_disk(
    file: Path, saved: Cluster, tmp_path: Path
) -> None:
    config = Submission("insights", file).check()
    savepoints.take("insights", saved.url, "")
    forgotten = Cluster(config={"execution.checkpointing.dir": f"file://{tmp_path}/checkpoints"})
    with pytest.raises(WrongUse, match=r"is not known here; file:///s/1 was taken at .*, while it ran"):
        resume.point(config, forgotten, "latest")
    for number, complete in ((9, True), (10, True), (11, False)):
        folder = tmp_path / "checkpoints" / ("a" * 32) / f"chk-{number}"
        folder.mkdir(parents=True)
        if complete:
            (folder / "_metadata").write_bytes(b"")
    assert resume.point(config, forgotten, "latest").endswith("/chk-10")
    elsewhere = Cluster(config={"execution.checkpointing.dir": "hdfs://name/checkpoints"})
    with pytest.raises(CommandFailed, match=r"hdfs://name/checkpoints cannot .* \(neither a disk"):
        resume.point(config, elsewhere, "latest")


def test_a_run_that_was_forgotten_does_not_go_on_where_it_began(file: Path, saved: Cluster) -> None:
    """Catch a job that counts twice what was committed before another command stopped it."""
    config = Submission("insights", file).check()
    journal.check("insights")
    for savepoint in ("file:///s/7", ""):
        journal.record("insights", journal.Start("then", saved.url, "a" * 32, "insights", "0.1.0", "", savepoint))
        forgotten = Cluster(config={"execution.checkpointing.dir": f"file://{file.parent}/checkpoints"})
        (file.parent / "checkpoints" / ("a" * 32) / "shared").mkdir(parents=True, exist_ok=True)
        with pytest.raises(WrongUse, match="is not known here"):
            resume.point(config, forgotten, "latest")


@pytest.mark.parametrize("place", ["own", "cluster"])
def test_a_savepoint_is_looked_for_in_the_folders_of_the_job_and_of_the_cluster(
    file: Path, saved: Cluster, place: str
) -> None:
    own, cluster = file.parent / "own", file.parent / "cluster"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"engine": {"checkpoint_dir": f"file://{own}"}}))
    config = Submission("insights", file).check()
    checkpoint, savepoint = own / ("a" * 32) / "chk-3", file.parent / place / "savepoint-aaaaaa-0"
    for number, folder in enumerate((checkpoint, savepoint), 1):
        folder.mkdir(parents=True)
        (folder / "_metadata").touch()
        os.utime(folder / "_metadata", (number, number))
    forgotten = Cluster(config={"execution.checkpointing.savepoint-dir": f"file://{cluster}"})
    journal.check("insights")
    journal.record("insights", journal.Start("then", saved.url, "a" * 32, "insights", "0.1.0", "", "file:///s/7"))
    with pytest.raises(WrongUse, match=r"unless it was drained, give file:///.*/savepoint-aaaaaa-0"):
        resume.point(config, forgotten, "latest")
    journal.record("insights", journal.Savepoint("now", saved.url, "a" * 32, f"file:{savepoint}"))
    assert resume.point(config, forgotten, "latest") == f"file://{savepoint}"
    os.utime(checkpoint / "_metadata", (9, 9))
    assert resume.point(config, forgotten, "latest") == f"file://{checkpoint}"


def test_a_savepoint_of_while_it_ran_is_no_end_where_the_checkpoints_are_gone(file: Path, saved: Cluster) -> None:
    """Catch a job that another command has stopped, into another folder, and that goes on from an older savepoint."""
    savepoint = file.parent / "savepoint-aaaaaa-1"
    savepoint.mkdir()
    (savepoint / "_metadata").touch()
    journal.check("insights")
    journal.record("insights", journal.Savepoint("then", saved.url, "a" * 32, f"file:{savepoint}"))
    forgotten = Cluster(config={"execution.checkpointing.savepoint-dir": f"file://{file.parent}"})
    with pytest.raises(WrongUse, match=r"is not known here; file:/.*/savepoint-aaaaaa-1 was taken at then, while it"):
        resume.point(Submission("insights", file).check(), forgotten, "latest")


def test_a_first_start_that_failed_is_repeated(file: Path, saved: Cluster) -> None:
    """Catch a submission that cannot be repeated until the cluster has forgotten the first one."""
    again, failed = Submission("insights", file), JOB | {"state": "FAILED"}
    cluster = Cluster(failed, checkpoints={"a" * 32: {}})
    assert again.continued(cluster).savepoint == ""
    journal.check("insights")
    journal.record("insights", journal.Start("now", saved.url, "a" * 32, "insights", "0.1.0", ""))
    assert again.continued(cluster).savepoint == "", "it failed after it was taken"
    assert again.continued(Cluster(failed, checkpoints={"a" * 32: points(completed=1)})).savepoint == "latest"
    journal.record("insights", journal.Start("now", saved.url, "a" * 32, "insights", "0.1.0", "", "file:///s/7"))
    assert again.continued(cluster).savepoint_path(cluster) == "file:///s/7", "it began there"


def test_a_submission_that_is_repeated_goes_on_begins_or_does_nothing(file: Path, saved: Cluster) -> None:
    """Catch a second start without state, or of a job that runs."""
    again = Submission("insights", file)
    nothing, running, ended = Cluster(), Cluster(JOB), Cluster(OLD)
    assert [again.running_id(cluster) for cluster in (nothing, running, ended)] == ["", "a" * 32, ""]
    assert [again.continued(cluster).savepoint for cluster in (nothing, ended)] == ["", "latest"]
    savepoints.stop("insights", saved.url, "", drain=False)
    assert again.continued(nothing).savepoint_path(nothing) == "file:///s/end"


def test_a_cluster_has_one_spelling_and_another_one_is_named(file: Path, saved: Cluster) -> None:
    assert NORMAL == "http://127.0.0.1:8081"
    journal.check("insights")
    journal.record("insights", journal.Savepoint(journal.now(), "http://production:8081", "a" * 32, "s3://b/x", True))
    with pytest.raises(WrongUse, match="the journal has http://production:8081"):
        resume.point(Submission("insights", file).check(), Cluster(), "latest")
