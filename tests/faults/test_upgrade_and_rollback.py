"""A job is upgraded three times, twice in vain, and rolled back each time; then its topic of insights is lost.

One upgrade is to settings to which the state does not fit, so that the cluster refuses the job, one to settings with
which it fails. While no telemetry comes the job is not drained.

Nothing is counted twice or lost: the sums in Iceberg are exact, each insight has the course that it has without all
this, and after `reconcile` the topic has the newest revision of each insight with the key and the headers of the job.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.clients.broker import admin_of
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import message
from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.runs.job_process import write_config
from reasoner.runs.local_run import LocalRun
from reasoner.stack import RunningStack
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.terminal import JOB_ID_CHARS, MINUTE_S, Person
from tests.services.job_runs import PLAN, ClusterJob, job_config, records_in, shop_messages, topics_in
from tests.support.driving import courses
from tests.support.reshaped import spread

pytestmark = pytest.mark.faults

PARTITIONS = 4
IDLE_MS = 20_000


def parts(messages: list[Message]) -> list[list[Message]]:
    """Divide the messages into three parts; the incident is open at both places."""
    assert PLAN.incident is not None, "the plan has no incident"
    first_ms, second_ms = PLAN.incident.start_ms + 60_000, PLAN.incident.start_ms + 120_000
    return [
        [one for one in messages if one.timestamp_ms < first_ms],
        [one for one in messages if first_ms <= one.timestamp_ms < second_ms],
        [one for one in messages if second_ms <= one.timestamp_ms],
    ]


def job_id_in(said: str) -> str:
    return next(line for line in said.splitlines() if len(line) == JOB_ID_CHARS)


def drain_refused(person: Person, rest: FlinkRest, job_id: str) -> str:
    """Return what a drain says once a source of the job is idle."""
    wait_until(lambda: max(rest.idle_ms_of_sources(job_id).values()) > IDLE_MS, "a source is idle", 2 * MINUTE_S, 1.0)
    said = person.run("stop", "changed", "--target", rest.url, "--drain", code=1)
    assert "is not drained: no message has come in" in said
    return said.splitlines()[-1][:160]


def reconciled(person: Person, file: Path, job: ClusterJob, newest: dict[str, int]) -> str:
    """Delete the topic of insights, reconcile, and return what is said. newest: revision of each insight."""
    kafka = job.config.kafka
    with admin_of(kafka.bootstrap_servers) as admin:
        admin.delete_topics([kafka.topics.insights])
        wait_until(lambda: kafka.topics.insights not in admin.list_topics(), "the topic is gone", MINUTE_S)
    create_topics(kafka.bootstrap_servers, {kafka.topics.insights: TopicSpec(PARTITIONS, KEEP_FOR_EVER_MS)})
    reconcile = ("reconcile", "--config", str(file), "--since", "9000d")
    said = person.run(*reconcile).splitlines()[-1]
    again = job.insight_records()
    assert Counter((one.insight_id, one.revision) for one in (from_json(record.value) for record in again)) == Counter(
        newest.items()
    )
    assert "0 insights were sent again" in person.run(*reconcile)
    return said


def test_upgrade_and_rollback(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    config = job_config(
        "changed", stack.settings.kafka_bootstrap, stack.settings.postgres_jdbc_url, tmp_path,
        engine={"checkpoint_interval_ms": 3_000},
    )  # fmt: skip
    config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"idle_ms": IDLE_MS})})
    rest, kafka = FlinkRest(stack.settings.flink_rest_url), config.kafka
    messages = list(spread(shop_messages(), PARTITIONS, 1))
    job = ClusterJob(config, rest, tmp_path)
    job.prepare(PARTITIONS)
    file = write_config(config, tmp_path / "changed.yaml")
    person, settings = Person(tmp_path, stack, file), yaml.safe_load(file.read_text())
    on = ("--config", str(file), "--target", rest.url)

    def send(part: list[Message]) -> None:
        play(part, kafka.bootstrap_servers, topics_in(config), PlayOptions(compression="gzip"))
        job.wait_until_read()

    first, second, third = parts(messages)
    before = job_id_in(person.run("submit", *on))
    send(first)
    file.write_text(yaml.safe_dump(settings | {"engine": settings["engine"] | {"parallelism": 1}}))
    wider = job_id_in(person.run("upgrade", *on))
    first_wider = wider
    assert rest.used_slots(wider) == 1, "the new settings hold"
    send(second)
    verdict["drain_of_an_idle_job_says"] = drain_refused(person, rest, wider)
    topics = settings["kafka"] | {"topics": settings["kafka"]["topics"] | {"logs": ""}}
    file.write_text(yaml.safe_dump(settings | {"kafka": topics}))
    said = person.run("upgrade", *on, code=1)
    verdict["refused_upgrade_says"] = said.splitlines()[-1][:160]
    assert "Cannot map checkpoint/savepoint state" in said
    wider = job_id_in(person.run("rollback", "changed", "--target", rest.url))
    file.write_text(yaml.safe_dump(settings | {"engine": settings["engine"] | {"python": "/no/python"}}))
    said = person.run("upgrade", *on, code=1)
    verdict["failed_upgrade_says"] = next(line for line in said.splitlines() if "does not work" in line)[:160]
    assert f"go back with: reasoner rollback changed --target {rest.url}" in said
    back = job_id_in(person.run("rollback", "changed", "--target", rest.url))
    assert rest.used_slots(back) == 1, "the settings of the job before"
    assert "was no upgrade" in person.run("rollback", "changed", "--target", rest.url, code=1)
    send(third)
    person.run("stop", "changed", "--target", rest.url, "--drain")

    records = job.insight_records()
    found = sorted((from_json(record.value) for record in records), key=lambda one: (one.insight_id, one.revision))
    expected = courses(out for out in LocalRun(config.graph()).run(messages) if isinstance(out, Insight))
    verdict |= {
        "job_ids": len({before, first_wider, wider, back}),
        "revisions": len(found),
        "spans_sent": records_in(messages)["traces"],
        "spans_in_rollups": job.spans_in_rollups(),
    }
    assert courses(found) == expected
    assert verdict["spans_in_rollups"] == dict.fromkeys(RESOLUTIONS_S, verdict["spans_sent"])
    for record in records:
        sent = message(from_json(record.value))
        assert (record.key, record.value, record.headers) == (sent.key, sent.value, sent.headers)

    newest = {one.insight_id: one.revision for one in found}
    verdict["reconciled"] = reconciled(person, file, job, newest)
    assert verdict["reconciled"] == f"{len(newest)} insights were sent again"
    verdict["pass"] = True
