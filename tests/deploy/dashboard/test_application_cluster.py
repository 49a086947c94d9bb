"""An application cluster of the stack: its job is watched, upgraded by a new cluster from its savepoint, and drained.

Every record counts once over both clusters; tables, checkpoints and the savepoint of the upgrade are on S3.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.clients.flink_rest import FlinkRest
from reasoner.recordings.player import play
from reasoner.runs import savepoints
from reasoner.stack import RunningStack, StackSettings, running
from reasoner.stack.s3 import credentials_file
from reasoner.waiting import wait_until
from tests.faults.terminal import Person
from tests.services.job_runs import ClusterJob, topics_in
from tests.support.components import SIZES
from tests.support.submitted import outcome, parts, prepared

pytestmark = pytest.mark.deploy

NAME = "application"
START_DEADLINE_S = 180.0


def test_application_cluster(session: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    job, file = prepared(session, NAME, tmp_path)
    settings = yaml.safe_load(file.read_text())
    first, second = parts(2)

    def send(part: Any) -> None:
        play(part, session.settings.kafka_bootstrap, topics_in(job.config))
        job.wait_until_read()

    with running(application(session.settings, tmp_path / "first", file), ["flink"]) as stack:
        started, person = started_in(job, stack), Person(tmp_path, stack, file)
        on = ("--config", str(file), "--target", started.rest.url)
        send(first)
        assert "RUNNING" in person.run("status", *on)
        assert "is an application cluster" in person.run("submit", *on, "--no-checks", code=1)
        file.write_text(yaml.safe_dump(settings | {"engine": settings["engine"] | {"parallelism": 1}}))
        said = person.run("upgrade", *on, code=1)
        path = said.partition("with the savepoint ")[2].partition(",")[0]
        assert path.startswith(f"s3://flink/{NAME}/savepoint-")
        assert started.state() == "FINISHED", "the cluster stays and shows the savepoint"
        assert started.rest.last_point(started.job_id) == path

    with running(application(session.settings, tmp_path / "second", file, path), ["flink"]) as stack:
        started = started_in(job, stack)
        vertices = started.rest.get(f"/jobs/{started.job_id}")["vertices"]
        verdict["subtasks_after_upgrade"] = max(vertex["parallelism"] for vertex in vertices)
        send(second)
        Person(tmp_path, stack, file).run("stop", NAME, "--target", started.rest.url, "--drain")

    verdict |= {"upgrade_says": said.splitlines()[-1].replace(path, "PATH"), **outcome(job, [*first, *second])}
    assert verdict["subtasks_after_upgrade"] == 1, "the new settings hold"
    verdict["pass"] = True


def application(session: StackSettings, folder: Path, file: Path, savepoint: str = "") -> StackSettings:
    """Return the settings of an application cluster that runs the job of a file, with the S3 server of the session."""
    settings = StackSettings(
        folder=folder, flink_application=file, flink_savepoint=savepoint, flink_s3=True, **SIZES
    ).with_auto_ports()
    keys = credentials_file(settings)
    keys.parent.mkdir(parents=True)
    keys.symlink_to(credentials_file(session))
    return settings.model_copy(update={"s3_port": session.s3_port})


def started_in(job: ClusterJob, stack: RunningStack) -> ClusterJob:
    """Return the job when all its tasks run in the application cluster."""
    rest = FlinkRest(stack.settings.flink_rest_url)
    wait_until(rest.overview, f"the program of the application has started a job on {rest.url}", START_DEADLINE_S)
    return replace(job, rest=rest, job_id=savepoints.ready(rest, NAME).job_id)
