"""A TaskManager is killed twice while spans keep coming: nothing is lost, and nothing is counted or emitted twice."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.stack import RunningStack
from reasoner.traffic.spans import SpanProfile, spans
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.breaking import kill_once
from tests.faults.conftest import feeding, setting
from tests.faults.faulty_spans import BadSpans, Faulty, Slowdown, truth
from tests.services.job_runs import ClusterJob, job_config, rejected_records

pytestmark = pytest.mark.faults

SEED = 20
START_MS = 1_700_000_000_000
INTERVAL_MS = 600_000
SPEED = 4.0  # seconds of event time a second: there are spans to read at each kill, and a backlog after it
PARTITIONS = 4
KILL_SHARES = ((0.10, 0.30), (0.45, 0.65))  # share of all messages that is read at each kill


BAD = BadSpans(late=3, future=1, end_before_start=1, too_old=1)


def profile() -> SpanProfile:
    """Return a profile of small spans with known numbers of bad ones, and one slow service so that an insight opens."""
    slow = Slowdown(service=7, start_ms=START_MS + 400_000, end_ms=START_MS + 520_000, factor=8.0)
    return SpanProfile(attributes=1, partitions=PARTITIONS, alter=Faulty(BAD, slow))


def test_kill_taskmanager(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    messages = setting("FAULT_SPANS", 5_000_000) // profile().spans_per_message
    expected = truth(profile().spans_per_message, BAD, messages)
    engine = {"checkpoint_interval_ms": 2_000}
    config = job_config(
        "kill",
        stack.settings.kafka_bootstrap,
        stack.settings.postgres_jdbc_url,
        tmp_path,
        signals=("traces",),
        engine=engine,
    )
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
    job.prepare(PARTITIONS)
    stream = spans(profile(), messages, SEED, START_MS, INTERVAL_MS // messages)

    job = job.started()
    random = Random(SEED)
    with feeding(config, stream, messages, SPEED):
        kills = [kill_once(stack, job, int(random.uniform(*shares) * messages), random) for shares in KILL_SHARES]
    job.wait_until_read(600.0)
    restarts = job.rest.restarts(job.job_id)
    job.drain()

    rollups = job.spans_in_rollups()
    rejected = rejected_records(job.dead_letters())
    revisions = Counter(dict(record.headers)["ce_id"] for record in job.insight_records())
    bodies = sorted(record.value for record in job.insight_records())
    verdict |= {
        "spans_sent": expected.spans,
        "late_spans_sent": expected.late,
        "spans_in_rollups": rollups,
        "spans_rejected": dict(rejected),
        "kills": kills,
        "flink_num_restarts": restarts,
        "insight_revisions": len(bodies),
        "insight_revisions_twice": sum(count - 1 for count in revisions.values()),
    }
    assert restarts >= len(kills)
    assert rejected == Counter(
        future=expected.future, end_before_start=expected.end_before_start, too_old=expected.too_old
    )
    assert rollups == dict.fromkeys(RESOLUTIONS_S, expected.counted)
    assert bodies, "the slow service must be found, or the test proves nothing about insights"
    assert max(revisions.values()) == 1
    assert bodies == job.table_bodies()
    verdict["pass"] = True
