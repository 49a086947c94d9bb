"""A job whose tables, checkpoints and savepoints are on S3, and the store is killed: nothing is lost, nothing twice."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.recordings.player import PlayOptions, play
from reasoner.runs.job_process import write_config
from reasoner.stack import RunningStack
from reasoner.stack.flink import taskmanager_name
from reasoner.stack.running import components_of
from reasoner.stack.s3 import keys
from reasoner.waiting import wait_until
from tests.deploy.store.conftest import config_on_s3
from tests.faults.breaking import completed_checkpoints
from tests.faults.conftest import feeding
from tests.faults.terminal import JOB_ID_CHARS, Person
from tests.services.job_runs import ClusterJob, topics_in
from tests.support.crash import kill_leader, start_taskmanager
from tests.support.submitted import PARTITIONS, outcome, parts

pytestmark = pytest.mark.deploy

NAME = "stored"
SPEED = 6.0  # seconds of event time a second: there are messages to read at each kill
KILLS_MAX = 10
BEFORE_SAVEPOINT = 0.8  # of the messages
OUTAGE_DEADLINE_S = (
    400.0  # S3's clients try for 5 s where the connection is refused, for a minute or two where it is silent
)


def kill_store(stack: RunningStack) -> None:
    record = stack.supervisor.record("s3")
    assert record is not None, "the store runs before it is killed"
    assert kill_leader(record)


def start_store(stack: RunningStack) -> None:
    stack.supervisor.up(components_of(stack.settings, ["s3"]))


def outage(stack: RunningStack, job: ClusterJob) -> dict[str, Any]:
    """Kill the store and keep it away until the job has failed and is restarted; return figures."""
    before = completed_checkpoints(job.rest, job.job_id)
    wait_until(lambda: completed_checkpoints(job.rest, job.job_id) >= before + 2, "two checkpoints", 120.0)
    restarts, (read, _) = job.rest.restarts(job.job_id), job.messages_read()
    kill_store(stack)
    wait_until(lambda: job.rest.restarts(job.job_id) > restarts, "the job fails without the store", OUTAGE_DEADLINE_S)
    start_store(stack)
    return {"kind": "until the job failed", "messages_read": read, **next_checkpoints(stack, job)}


def kill_in_checkpoint(stack: RunningStack, job: ClusterJob) -> dict[str, Any]:
    """Kill the store while a checkpoint is being written, and start it again at once; return figures."""
    folder = stack.settings.folder / "s3" / "data" / "flink" / NAME / job.job_id
    known = set(folder.glob("chk-*"))

    def unfinished() -> list[str]:
        begun = set(folder.glob("chk-*")) - known
        return [path.name for path in begun if not (path / "_metadata").exists()]

    found = wait_until(unfinished, "a checkpoint has begun", 120.0, 0.002)[0]
    kill_store(stack)
    incomplete = not (folder / found / "_metadata").exists()
    start_store(stack)
    return {"kind": "in a checkpoint", "checkpoint": found, "incomplete": incomplete, **next_checkpoints(stack, job)}


def kills_in_checkpoint(stack: RunningStack, job: ClusterJob) -> list[dict[str, Any]]:
    """Kill the store until a kill has left a checkpoint without its end: on a busy machine many come too late."""
    kills = [kill_in_checkpoint(stack, job)]
    while not kills[-1]["incomplete"]:
        assert len(kills) < KILLS_MAX, f"none of {len(kills)} kills hit a checkpoint"
        kills.append(kill_in_checkpoint(stack, job))
    return kills


def next_checkpoints(stack: RunningStack, job: ClusterJob) -> dict[str, Any]:
    """Wait until two more checkpoints are complete; return figures.

    A TaskManager ends with a job that fails without the store: an exception of Iceberg's writer in the clean-up of a
    task is fatal for Flink. It is started again, as Kubernetes and Compose do.
    """
    wanted, ended, began_s = completed_checkpoints(job.rest, job.job_id) + 2, 0, time.monotonic()

    def complete() -> bool:
        nonlocal ended
        if stack.supervisor.record(taskmanager_name(1)) is None:
            ended += 1
            start_taskmanager(stack, 1)
        return completed_checkpoints(job.rest, job.job_id) >= wanted

    wait_until(complete, "checkpoints go on", 300.0)
    back_s = round(time.monotonic() - began_s, 1)
    restarts = job.rest.restarts(job.job_id)
    return {"restarts": restarts, "taskmanagers_ended": ended, "two_checkpoints_after_s": back_s}


def leaks(stack: RunningStack, folder: Path, rest: FlinkRest) -> list[str]:
    """Return the logs, settings and pages of the dashboard in which the secret key stands."""
    secret, root = keys(stack.settings)["aws_secret_access_key"], stack.settings.folder
    files = [*root.rglob("*.log"), *(root / "flink" / "conf").iterdir(), *folder.glob("*.yaml")]
    assert any(secret in path.read_text() for path in (root / "s3").glob("credentials"))
    pages = {path: json.dumps(rest.get(path)) for path in ("/jobmanager/config", "/jobmanager/environment")}
    found = [str(path) for path in files if secret in path.read_text(errors="replace")]
    return found + [page for page, text in pages.items() if secret in text]


def test_s3(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    config = config_on_s3(stack, NAME, tmp_path)
    file = write_config(config, tmp_path / f"{NAME}.yaml")
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
    person, url = Person(tmp_path, stack, file), job.rest.url
    (messages,) = parts(1)
    before = messages[: int(len(messages) * BEFORE_SAVEPOINT)]
    job.prepare(PARTITIONS)

    submit = ("submit", "--config", str(file), "--target", url)
    job = replace(job, job_id=job_id_in(person.run(*submit)))
    with feeding(config, before, len(before), SPEED):
        verdict["kills"] = [*kills_in_checkpoint(stack, job), outage(stack, job), kill_in_checkpoint(stack, job)]
    job.wait_until_read()
    # Its first line: pyiceberg logs each commit that the job has overtaken.
    maintain = person.run("tables", "maintain", "--config", str(file), "--keep-hours", "0", "--json").splitlines()[0]
    stopped = person.run("stop", NAME, "--target", url)
    job = replace(job, job_id=job_id_in(person.run(*submit, "--savepoint", "latest")))
    play(messages[len(before) :], config.kafka.bootstrap_servers, topics_in(config), PlayOptions())
    job.wait_until_read()
    person.run("stop", NAME, "--target", url, "--drain")

    revisions = Counter(dict(record.headers)["ce_id"] for record in job.insight_records())
    verdict |= {
        **outcome(job, messages),
        "insight_revisions_twice": sum(count - 1 for count in revisions.values()),
        "files_merged": sum(table["files_before"] - table["files_after"] for table in json.loads(maintain)["tables"]),
    }
    assert f"s3://flink/{NAME}/savepoint-" in stopped
    assert max(revisions.values()) == 1
    assert verdict["files_merged"] > 0
    assert leaks(stack, tmp_path, job.rest) == []
    verdict["pass"] = True


def job_id_in(said: str) -> str:
    return next(line for line in said.splitlines() if len(line) == JOB_ID_CHARS)
