"""Upgrade to a new release: its job starts from the savepoint of the old one in mid-stream, and no result differs."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.runs import submit
from reasoner.stack import RunningStack
from reasoner.traffic.spans import SpanProfile, spans
from reasoner.waiting import wait_until
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.breaking import stop_with_savepoint
from tests.faults.conftest import feeding, setting
from tests.faults.faulty_spans import BadSpans, Faulty, truth
from tests.services.job_runs import (
    ClusterJob,
    committed_records,
    job_config,
    rejected_records,
)
from tests.tidy.rules import ROOT

pytestmark = pytest.mark.faults

SEED = 21
START_MS = 1_700_000_000_000
INTERVAL_MS = 600_000
BAD = BadSpans(late=3, future=1, end_before_start=1, too_old=1)
PROFILE = SpanProfile(attributes=1, alter=Faulty(BAD))
STOP_SHARE = 0.2  # share of all messages that is read when the old job is stopped
SPEED = 8.0  # seconds of event time a second: spans keep coming before, during and after the change


def test_savepoint_evolution(
    stack: RunningStack, tmp_path: Path, verdict: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap = stack.settings.kafka_bootstrap
    messages = setting("FAULT_SPANS", 5_000_000) // 2 // PROFILE.spans_per_message
    expected = truth(PROFILE.spans_per_message, BAD, messages)
    jdbc_url = stack.settings.postgres_jdbc_url
    engine = {"checkpoint_interval_ms": 2_000}
    config = job_config("evolve", bootstrap, jdbc_url, tmp_path, signals=("traces",), engine=engine)
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
    job.prepare(PROFILE.partitions)
    create_topics(bootstrap, {"evolve-tallies": TopicSpec(2, KEEP_FOR_EVER_MS)})
    stream = spans(PROFILE, messages, SEED, START_MS, INTERVAL_MS // messages)

    old = job.started()
    with feeding(config, stream, messages, SPEED):
        wait_until(lambda: old.messages_read()[0] >= STOP_SHARE * messages, f"{STOP_SHARE:.0%} is read", 300.0)
        savepoint = stop_with_savepoint(old)
        read, sent = old.messages_read()
        monkeypatch.setattr(submit, "SCRIPT", ROOT / "tests/faults/evolved_job.py")
        new = job.started(savepoint)
    new.wait_until_read(600.0)
    restarts = new.rest.restarts(new.job_id)
    new.drain()

    rollups = new.spans_in_rollups()
    letters = new.dead_letters()
    positions = Counter((letter["partition"], letter["offset"], letter["reason"]) for letter in letters)
    tallied = sum(int(record.value) for record in committed_records(bootstrap, "evolve-tallies"))
    revisions = Counter(dict(record.headers)["ce_id"] for record in new.insight_records())
    verdict |= {
        "spans_sent": expected.spans,
        "spans_in_rollups": rollups,
        "spans_rejected": dict(rejected_records(letters)),
        "dead_letters_twice": sum(count - 1 for count in positions.values()),
        "insight_revisions_twice": sum(count - 1 for count in revisions.values()),
        "spans_seen_by_the_new_machine": tallied,
        "messages_read_at_the_savepoint": read,
        "messages_sent_by_then": sent,
        "flink_num_restarts": restarts,
    }
    assert restarts == 0
    assert rollups == dict.fromkeys(RESOLUTIONS_S, expected.counted)
    assert rejected_records(letters).total() == expected.rejected
    assert max(positions.values()) == 1
    assert max(revisions.values(), default=1) == 1
    after = truth(PROFILE.spans_per_message, BAD, messages - sent)
    assert after.counted <= tallied < expected.counted, "the new machine receives what the old job had not emitted"
    verdict["pass"] = True
