"""Commands on a machine without Flink: the job is submitted, upgraded and rolled back by REST, tables are exact on S3.

The settings go along with the request. What is wrong is said as if Flink's own command line had submitted the job.
The job goes on with other numbers of subtasks: from a savepoint, and from its last checkpoint after it was cancelled.
Flink makes the names of RocksDB's logs of whole paths; those of the latter were longer than 255 characters in a folder
of this length, and the job failed again and again.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.clients.flink_jars import run_program
from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed
from reasoner.recordings.player import play
from reasoner.stack import RunningStack
from tests.faults.terminal import JOB_ID_CHARS, Person
from tests.services.job_runs import topics_in
from tests.support.submitted import outcome, parts, prepared

pytestmark = [pytest.mark.deploy, pytest.mark.usefixtures("no_secrets")]

# Program arguments that cannot work -> what is said.
WRONG: dict[tuple[str, ...], str] = {
    (): "Flink user code attempted to exit JVM",
    ("--x", "1", "-py", "job.py"): "Flink user code attempted to exit JVM",
    ("-pym", "jobs.unknown"): "No module named jobs.unknown",
    ("-pym", "jobs.insights", "--bogus"): "one of the arguments --config --settings is required",
    ("-pym", "jobs.insights", "--settings", "name: Wrong"): "lake: found nothing: expected a value",
}


def test_rest_submission(
    session: RunningStack, tmp_path: Path, verdict: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, file = prepared(session, "rest", tmp_path)
    rest = FlinkRest(session.settings.flink_rest_url)
    jobs, jars = rest.overview(), rest.get("/jars")["files"]
    monkeypatch.setenv("REASONER_TOOLS", str(tmp_path / "no-flink"))
    person, on = Person(tmp_path, session, file), ("--config", str(file), "--target", rest.url)
    settings = yaml.safe_load(file.read_text())

    verdict["wrong_arguments_say"] = {" ".join(words): refusal(rest, words) for words in WRONG}
    for words, expected in WRONG.items():
        assert expected in verdict["wrong_arguments_say"][" ".join(words)]
    assert rest.overview() == jobs
    said = person.run("submit", *on, "--savepoint", "/nowhere", code=1)
    assert "Cannot find checkpoint or savepoint file/directory '/nowhere'" in said

    sent = parts(4)
    job_ids, restarts = list[str](), list[int]()

    def started(*words: str) -> None:
        job_ids.append(job_id_in(person.run(*words)))

    def send(number: int) -> None:
        play(sent[number], session.settings.kafka_bootstrap, topics_in(job.config))
        job.wait_until_read()
        restarts.append(rest.restarts(job_ids[-1]))

    def change(**engine: Any) -> None:
        file.write_text(yaml.safe_dump(settings | {"engine": settings["engine"] | engine}))

    started("submit", *on)
    assert "already" in person.run("submit", *on, "--no-checks", code=1), "the program itself refuses a second job"
    send(0)
    change(python="/no/python")
    said = person.run("upgrade", *on, code=1)
    verdict["failed_upgrade_says"] = next(line for line in said.splitlines() if "does not work" in line)[:160]
    started("rollback", "rest", "--target", rest.url)
    send(1)
    change(parallelism=3)
    started("upgrade", *on)
    assert rest.used_slots(job_ids[-1]) == 3, "the new settings hold"
    send(2)
    rest.cancel(job_ids[-1], deadline_s=60.0)
    change(parallelism=2)  # each subtask gets state of two
    started("submit", *on, "--savepoint", "latest")
    restored = rest.get(f"/jobs/{job_ids[-1]}/checkpoints")["latest"]["restored"]
    assert f"/{job_ids[-2]}/chk-" in restored["external_path"]
    send(3)
    stopped = person.run("stop", "rest", "--target", rest.url, "--drain")
    assert "s3://flink/rest/savepoint-" in stopped

    messages = [message for part in sent for message in part]
    verdict |= {"jobs": len(set(job_ids)), "restarts": restarts, **outcome(job, messages)}
    assert not any(restarts)
    assert rest.get("/jars")["files"] == jars, "no jar is left behind"
    verdict["pass"] = True


def refusal(rest: FlinkRest, words: tuple[str, ...]) -> str:
    """Return what is said about program arguments that cannot work."""
    with pytest.raises(CommandFailed) as refused:
        run_program(rest, words, "")
    return str(refused.value).partition("did not take the job: ")[2]


def job_id_in(said: str) -> str:
    return next(line for line in said.splitlines() if len(line) == JOB_ID_CHARS)
