"""A night with one job: submitted twice, cancelled, killed, its stack stopped, its broker restarted.

The commands are those of a person. After each event `insights tail`, which runs all the time, shows within a minute
what is new, or why nothing is; `submit --savepoint latest` goes on; in the end the sums in Iceberg are exact, and each
insight has the course that it has without all this.
"""

import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import Hidden, hidden
from reasoner.errors import CommandFailed
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.runs.job_process import write_config
from reasoner.runs.local_run import LocalRun
from reasoner.stack import RunningStack
from reasoner.stack.environment import flink_home
from reasoner.stack.loopback import answer_of
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.breaking import completed_checkpoints
from tests.faults.terminal import JOB_ID_CHARS, MINUTE_S, Person, Tail
from tests.services.job_runs import PLAN, ClusterJob, job_config, records_in, shop_messages, topics_in, wait_for_state
from tests.support.crash import kill_leader
from tests.support.driving import courses
from tests.support.reshaped import spread
from tests.tidy.rules import ROOT

pytestmark = pytest.mark.faults

PARTITIONS = 4
CHECKPOINT_MS = 15_000  # so long that insights wait for their commit when something happens
# Seconds after the begin of the incident: insights open at 23 s and are updated at 43, 73 and 133 s; metrics, which
# come each 10 s, hold event time back.
AFTER_BEGIN_S = (15, 45, 62, 95, 155)
NOT_COMMITTED = "are not committed since"
SHOWN = ("  open ", "  updated ", "  closed ")


def parts(messages: list[Message]) -> list[list[Message]]:
    """Divide the messages at the events of the night, in order."""
    assert PLAN.incident is not None, "the plan has no incident"
    bounds = [0, *(PLAN.incident.start_ms + 1_000 * after_s for after_s in AFTER_BEGIN_S), 1 << 60]
    return [
        [message for message in messages if first <= message.timestamp_ms < stop]
        for first, stop in itertools.pairwise(bounds)
    ]


def submitted_by_rest(rest: FlinkRest, config: Path) -> str:
    """Submit the job as the dashboard does, and return Flink's answer."""
    jar = next((flink_home() / "opt").glob("flink-python*.jar"))
    disposition = f'Content-Disposition: form-data; name="jarfile"; filename="{jar.name}"'
    form = f"--part\r\n{disposition}\r\nContent-Type: application/x-java-archive\r\n\r\n".encode()
    content_type = {"Content-Type": "multipart/form-data; boundary=part"}
    request = Request(f"{rest.url}/jars/upload", form + jar.read_bytes() + b"\r\n--part--\r\n", content_type)
    with answer_of(request, 60.0) as answer:
        name = json.load(answer)["filename"].rpartition("/")[2]
    program = ["-pyclientexec", sys.executable, "-py", str(ROOT / "jobs/insights.py"), "--config", str(config)]
    body = {"entryClass": "org.apache.flink.client.python.PythonDriver", "programArgsList": program}
    try:
        return str(replace(rest, timeout_s=180.0).post(f"/jars/{name}/run", body))
    except CommandFailed as refused:
        return str(refused)


@dataclass
class Night:
    """The job during the night: what is done to it, and what the person's `tail` shows then."""

    person: Person
    job: ClusterJob
    tail: Tail
    verdict: dict[str, Any]

    @property
    def rest(self) -> FlinkRest:
        return self.job.rest

    @property
    def on(self) -> tuple[str, ...]:
        return ("--config", str(self.person.config), "--target", self.rest.url)

    @property
    def folder(self) -> tuple[str, str]:
        return ("--folder", str(self.person.stack.settings.folder))

    def send(self, part: list[Message]) -> None:
        """Send a part of the telemetry to the running job."""
        config = self.job.config
        wait_for_state(self.rest, self.job.job_id, "RUNNING", MINUTE_S)
        wait_until(lambda: completed_checkpoints(self.rest, self.job.job_id) > 0, "the job has a checkpoint", 180.0)
        play(part, config.kafka.bootstrap_servers, topics_in(config), PlayOptions(compression="gzip"))

    def wait_for_insights(self) -> None:
        """Wait until insights wait for their commit: what happens then is what hides them."""
        wait_until(self.hidden, "insights are not committed", MINUTE_S, 0.2)

    def hidden(self) -> Hidden | None:
        kafka = self.job.config.kafka
        return hidden(kafka.bootstrap_servers, kafka.topics.insights)

    def shows(self, name: str, words: Sequence[str], after: int) -> None:
        """Wait until `tail` shows one of the words behind `after` bytes, and note how long it took."""
        self.verdict[f"{name}_tail_after_s"] = self.tail.seconds_until(words, after)

    def goes_on(self, name: str) -> None:
        """Submit the job from where it ended; `tail` shows what it says."""
        mark, said = self.tail.size(), self.person.run("submit", *self.on, "--savepoint", "latest")
        self.job = replace(self.job, job_id=next(line for line in said.splitlines() if len(line) == JOB_ID_CHARS))
        self.shows(f"{name}_then_submitted", SHOWN, mark)

    def submitted_twice(self) -> None:
        said = self.person.run("submit", *self.on, code=1)
        self.verdict["second_submit_refused"] = "already" in said
        self.verdict["second_by_rest_refused"] = "errors" in submitted_by_rest(self.rest, self.person.config)
        assert self.verdict["second_submit_refused"]
        assert self.verdict["second_by_rest_refused"], "the job itself refuses the name"
        assert len([found for found in self.rest.overview() if found.is_active]) == 1

    def cancelled(self) -> None:
        """Cancel the job. Its sink aborts its transaction if it is given the time; else `tail` says what is hidden."""
        mark = self.tail.size()
        self.rest.cancel(self.job.job_id, deadline_s=MINUTE_S)
        begin_s = time.monotonic()
        wait_until(lambda: not self.hidden() or NOT_COMMITTED in self.tail.text()[mark:], "all is said", MINUTE_S)
        self.verdict["cancelled_tail_after_s"] = round(time.monotonic() - begin_s, 1)
        self.verdict["cancelled_left_a_transaction"] = self.hidden() is not None
        self.goes_on("cancelled")

    def killed(self) -> None:
        mark = self.tail.size()
        for record in self.person.stack.supervisor.running():
            if record.name.startswith("flink"):
                kill_leader(record)
        self.shows("killed", [NOT_COMMITTED], mark)
        assert NOT_COMMITTED in self.person.run("doctor", *self.on, code=1)
        self.person.run("stack", "up", *self.folder)
        self.goes_on("killed")

    def stack_stopped(self) -> None:
        assert "runs on" in self.person.run("stack", "down", *self.folder, code=1)
        mark = self.tail.size()
        self.person.run("stack", "down", *self.folder, "--force")
        self.shows("stack_stopped", ["does not answer"], mark)
        self.person.run("stack", "up", *self.folder)
        self.goes_on("stack_stopped")

    def broker_restarted(self) -> None:
        mark = self.tail.size()
        self.person.run("stack", "down", "kafka", *self.folder, "--force")
        self.person.run("stack", "up", "kafka", *self.folder)
        self.shows("broker_restarted", SHOWN, mark)
        self.verdict["restarts_by_the_broker"] = self.rest.restarts(self.job.job_id)


def test_interrupted_job(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    config = job_config(
        "night", stack.settings.kafka_bootstrap, stack.settings.postgres_jdbc_url, tmp_path,
        engine={"checkpoint_interval_ms": CHECKPOINT_MS, "checkpoint_dir": ""},
    )  # fmt: skip
    messages = list(spread(shop_messages(), PARTITIONS, 1))
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
    job.prepare(PARTITIONS)
    person = Person(tmp_path, stack, write_config(config, tmp_path / "night.yaml"))
    with person.tail() as tail:
        night = Night(person, job, tail, verdict)
        night.job = replace(job, job_id=person.run("submit", *night.on).split()[-1])
        events = (night.cancelled, night.killed, night.stack_stopped, night.broker_restarted)
        first, *others, last = parts(messages)
        night.send(first)
        night.submitted_twice()
        for part, event in zip(others, events, strict=True):
            night.send(part)
            night.wait_for_insights()
            event()
        night.send(last)
        night.job.wait_until_read()
        night.job.drain()
        bodies = [record.value for record in job.insight_records()]
        ids = {from_json(body).insight_id for body in bodies}
        wait_until(lambda: all(name in tail.text() for name in ids), "tail shows every insight", MINUTE_S)

    found = sorted(map(from_json, bodies), key=lambda insight: (insight.insight_id, insight.revision))
    expected = courses(out for out in LocalRun(config.graph()).run(messages) if isinstance(out, Insight))
    revisions = Counter((insight.insight_id, insight.revision) for insight in found)
    verdict |= {
        "insights": len(ids),
        "revisions": len(found),
        "revisions_twice": sum(count - 1 for count in revisions.values()),
        "spans_sent": records_in(messages)["traces"],
        "spans_in_rollups": job.spans_in_rollups(),
        "severe_lines_sent": records_in(messages)["severe"],
        "severe_lines_in_patterns": job.severe_lines(),
    }
    assert verdict["spans_in_rollups"] == dict.fromkeys(RESOLUTIONS_S, verdict["spans_sent"])
    assert courses(found) == expected
    assert sorted(bodies) == job.table_bodies()
    assert not verdict["revisions_twice"]
    verdict["pass"] = True
