"""A job is stopped with a savepoint and restored ten times around the begin and the end of an incident.

Each insight has the course that it has without a restore: it opens once, closes once, and no revision comes twice. The
roll-ups are exact.
"""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import last_revisions
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.runs.local_run import LocalRun
from reasoner.stack import RunningStack
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.breaking import stop_with_savepoint, wait_for_a_checkpoint
from tests.services.job_runs import PLAN, ClusterJob, job_config, records_in, shop_messages, topics_in
from tests.support.driving import courses
from tests.support.reshaped import spread

pytestmark = pytest.mark.faults

PARTITIONS = 4
# Seconds after the begin, and after the end, of the incident: openings and first updates; closings, early and final.
AFTER_BEGIN_S = (15, 25, 40, 60, 100)
AFTER_END_S = (20, 60, 120, 150, 180)


def moments_ms() -> list[int]:
    """Return the event times at which the job is stopped."""
    incident = PLAN.incident
    assert incident is not None, "the plan has no incident"
    begins = [incident.start_ms + 1_000 * after_s for after_s in AFTER_BEGIN_S]
    return [*begins, *(incident.end_ms + 1_000 * after_s for after_s in AFTER_END_S)]


def parts(messages: list[Message]) -> list[list[Message]]:
    """Divide the messages at the moments, in order."""
    bounds = [0, *moments_ms(), 1 << 60]
    return [
        [message for message in messages if first <= message.timestamp_ms < stop]
        for first, stop in itertools.pairwise(bounds)
    ]


def test_restore_at_ten_moments(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    config = job_config(
        "ten", stack.settings.kafka_bootstrap, stack.settings.postgres_jdbc_url, tmp_path,
        engine={"checkpoint_interval_ms": 2_000},
    )  # fmt: skip
    messages = list(spread(shop_messages(), PARTITIONS, 1))
    first, *rest = parts(messages)
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
    job.prepare(PARTITIONS)
    job = job.started()
    play(first, config.kafka.bootstrap_servers, topics_in(config), PlayOptions(compression="gzip"))
    for part in rest:
        job.wait_until_read()
        wait_for_a_checkpoint(job)
        job = job.started(stop_with_savepoint(job))
        play(part, config.kafka.bootstrap_servers, topics_in(config), PlayOptions(compression="gzip"))
    job.wait_until_read()
    wait_for_a_checkpoint(job)
    job.drain()

    bodies = [record.value for record in job.insight_records()]
    found = sorted(map(from_json, bodies), key=lambda insight: (insight.insight_id, insight.revision))
    expected = courses(out for out in LocalRun(config.graph()).run(messages) if isinstance(out, Insight))
    revisions = Counter((insight.insight_id, insight.revision) for insight in found)
    verdict |= {
        "restores": len(rest),
        "insights": len(last_revisions(bodies)),
        "revisions": len(found),
        "revisions_twice": sum(count - 1 for count in revisions.values()),
        "courses": dict(Counter(" ".join(statuses) for statuses in courses(found).values())),
        "courses_not_as_without_a_restore": sum(
            courses(found).get(insight_id) != statuses for insight_id, statuses in expected.items()
        ),
        "spans_sent": records_in(messages)["traces"],
        "spans_in_rollups": job.spans_in_rollups(),
    }
    assert expected
    assert courses(found) == expected
    assert max(revisions.values()) == 1
    assert all(statuses.count("open") == 1 for statuses in courses(found).values())
    assert verdict["spans_in_rollups"] == dict.fromkeys(RESOLUTIONS_S, verdict["spans_sent"])
    assert sorted(bodies) == job.table_bodies()
    verdict["pass"] = True
