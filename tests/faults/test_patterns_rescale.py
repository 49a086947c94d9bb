"""A TaskManager is killed, then a savepoint rescales the job from 2 to 4 subtasks, all in mid-stream: no line is lost.

Only the one new error is reported as new. Each pattern keeps its id and the time when it was first seen.
"""

from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest

from jobs.settings import JobConfig
from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import last_revisions
from reasoner.recordings.message import Message
from reasoner.runs.local_run import LocalRun
from reasoner.stack import RunningStack
from reasoner.waiting import wait_until
from state_schemas.aggregates.logs import OTHER_PATTERNS
from state_schemas.contracts.insight import Insight, from_json, to_json
from state_schemas.contracts.tables import PatternName
from tests.faults import severe_logs
from tests.faults.breaking import kill_once, stop_with_savepoint
from tests.faults.conftest import feeding
from tests.faults.severe_logs import WIDE, PatternWindow, Story, emissions_that_do_not_add_up
from tests.services.job_runs import ClusterJob, job_config

pytestmark = pytest.mark.faults

SEED = 22
START_MS = 1_700_000_040_000  # start of a minute
MINUTES = 36
NEW_ERROR_MINUTE = 31
SPEED = 24.0  # seconds of event time a second: lines keep coming before, during and after each fault
PARTITIONS = 4
WIDER = 4  # subtasks after the savepoint, twice as many as before
KILL_SHARE, STOP_SHARE = 0.25, 0.5  # share of all messages that is read by then

Name = tuple[str, str]  # service, pattern id
Named = tuple[str, int]  # template, time first seen in ms


class Uninterrupted(NamedTuple):
    """Results of the same messages in this process. insights: last revisions of insights about patterns."""

    names: dict[Name, Named]
    insights: list[Insight]


class Disturbed(NamedTuple):
    """Figures of the job with faults. read, sent: messages at the savepoint; read_by: aggregates by new subtask."""

    kill: dict[str, Any]
    restarts: int
    read: int
    sent: int
    read_by: list[int]


def uninterrupted(config: JobConfig, stream: list[Message]) -> Uninterrupted:
    names: dict[Name, Named] = {}
    bodies = []
    for out in LocalRun(config.graph()).run(stream):
        if isinstance(out, PatternName):
            names[out.service, out.pattern_id] = (out.template, out.first_seen_ms)
        elif isinstance(out, Insight):
            bodies.append(to_json(out))
    insights = [insight for insight in last_revisions(bodies) if insight.kind.startswith("error_pattern")]
    return Uninterrupted(names, insights)


def lines_by_window(rows: list[dict[str, Any]]) -> Counter[PatternWindow]:
    """Return the lines of the rows, added up by window and pattern."""
    found: Counter[PatternWindow] = Counter()
    for row in rows:
        window = (row["resolution_s"], _ms(row["window_start"]), row["late"])
        found[row["service"], row["pattern_id"], *window] += row["count"]
    return found


def by_window(counts: Counter[PatternWindow]) -> Counter[tuple[Any, ...]]:
    """Return the counts added up over the patterns of a window."""
    found: Counter[tuple[Any, ...]] = Counter()
    for (service, _, *window), count in counts.items():
        found[service, *window] += count
    return found


def registry(config: JobConfig) -> tuple[dict[Name, Named], int]:
    """Return the last template of each pattern, and the number of rows that change the time when it was first seen."""
    names: dict[Name, Named] = {}
    moved = 0
    for row in lake.read(config.lake, "pattern_registry").sort_by("at").to_pylist():
        assert not row["alias_of"], "no template here is part of a wider one"
        name, first_ms = (row["service"], row["pattern_id"]), _ms(row["first_seen"])
        moved += name in names and names[name][1] != first_ms
        names[name] = (row["template"], first_ms)
    return names, moved


def aggregates_by_subtask(rest: FlinkRest, job_id: str, subtasks: int) -> list[int]:
    """Return the number of aggregates that each subtask of the machine has read since the job started."""
    (vertex,) = (v["id"] for v in rest.get(f"/jobs/{job_id}")["vertices"] if "error-patterns" in v["name"])
    asked = ",".join(f"{number}.error-patterns.numRecordsIn" for number in range(subtasks))
    metrics = rest.get(f"/jobs/{job_id}/vertices/{vertex}/metrics?get={asked}")
    return [int(metric["value"]) for metric in metrics]


def fingerprint(insight: Insight) -> dict[str, Any]:
    """Return the insight without its revision number and the names of topics.

    One that goes on is `open` where event time passed all its windows in one step, and `updated` otherwise (0023).
    """
    plain: dict[str, Any] = msgspec.to_builtins(insight)
    del plain["revision"]
    plain["status"] = "open" if insight.status == "updated" else insight.status
    for part in plain["evidence"]["kafka"]:
        del part["topic"]
    return plain


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1_000)


def settings(stack: RunningStack, folder: Path) -> JobConfig:
    return job_config(
        "rescale",
        stack.settings.kafka_bootstrap,
        stack.settings.postgres_jdbc_url,
        folder,
        signals=("logs",),
        engine={"checkpoint_interval_ms": 2_000},
        detection={"pattern_insights": True},
    )


def broken_and_widened(stack: RunningStack, job: ClusterJob, stream: list[Message]) -> tuple[ClusterJob, Disturbed]:
    """Feed the stream to the job during both faults; return the wider job when it has read everything."""
    config = job.config
    old = job.started()
    with feeding(config, stream, len(stream), SPEED):
        kill = kill_once(stack, old, int(KILL_SHARE * len(stream)), Random(SEED))
        wait_until(lambda: old.messages_read()[0] >= STOP_SHARE * len(stream), f"{STOP_SHARE:.0%} is read", 300.0)
        restarts = old.rest.restarts(old.job_id)
        savepoint = stop_with_savepoint(old)
        read, sent = old.messages_read()
        wider = config.model_copy(update={"engine": config.engine.model_copy(update={"parallelism": WIDER})})
        new = replace(job, config=wider).started(savepoint)
    new.wait_until_read(300.0)
    read_by: list[int] = []

    def all_have_read() -> bool:
        read_by[:] = aggregates_by_subtask(new.rest, new.job_id, WIDER)
        return len(read_by) == WIDER and min(read_by) > 0

    wait_until(all_have_read, f"each of {WIDER} subtasks has read lines", 30.0)
    return new, Disturbed(kill, restarts, read, sent, read_by)


def test_patterns_rescale(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    story = severe_logs.story(START_MS, MINUTES, NEW_ERROR_MINUTE, PARTITIONS, SEED)
    config = settings(stack, tmp_path)
    local = uninterrupted(config, story.stream)
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path, "error-patterns")
    job.prepare(PARTITIONS)
    job, done = broken_and_widened(stack, job, story.stream)
    restarts = job.rest.restarts(job.job_id)
    job.drain()

    verdict |= {
        "kill": done.kill,
        "messages_read_at_the_savepoint": done.read,
        "messages_sent_by_then": done.sent,
        "minutes_from_savepoint_to_news": round(NEW_ERROR_MINUTE - done.read / len(story.stream) * MINUTES, 1),
        "partials_by_subtask_after_rescaling": done.read_by,
        "flink_num_restarts": {"before_rescaling": done.restarts, "after": restarts},
    }
    assert done.restarts >= 1
    assert restarts == 0
    assert verdict["minutes_from_savepoint_to_news"] > 2, "the new error begins before the wider job: plant it later"
    counts_are_exact(story, job, verdict)
    names_are_the_same(story, job, local, verdict)
    only_the_new_error_was_emitted(story, job, local, verdict)
    verdict["pass"] = True


def counts_are_exact(story: Story, job: ClusterJob, verdict: dict[str, Any]) -> None:
    """Assert the count of every pattern in every window.

    For the service with more patterns than rows: the sum of each window, and no pattern counted too often.
    """
    rows = lake.read(job.config.lake, "error_patterns").to_pylist()
    found, expected = lines_by_window(rows), story.expected
    wide = Counter({key: count for key, count in found.items() if key[0] == WIDE})
    narrow = Counter({key: count for key, count in expected.items() if key[0] != WIDE})
    beyond = sum(count for key, count in wide.items() if key[1] == OTHER_PATTERNS)
    missing, too_many = by_window(expected) - by_window(found), by_window(found) - by_window(expected)
    wrong = emissions_that_do_not_add_up(rows)
    verdict |= {
        "lines_sent": len(story.sent),
        "loud_lines_sent": sum(line.template.severe for line in story.sent),
        "loud_lines_in_rows": job.severe_lines(),
        "late_lines_in_rows": sum(row["count"] for row in rows if row["late"] and row["resolution_s"] == 10),
        "lines_in_other": beyond,
        "windows": len(by_window(expected)),
        "windows_with_a_wrong_count": len(missing.keys() | too_many.keys()),
        "emissions_that_do_not_add_up": len(wrong),
    }
    assert found - wide == narrow
    assert (missing, too_many) == (Counter(), Counter())
    named = Counter({key: count for key, count in wide.items() if key[1] != OTHER_PATTERNS})
    assert not named - expected
    assert beyond > 0, "every pattern had its own row: `other` was not tested"
    assert wrong == []


def names_are_the_same(story: Story, job: ClusterJob, local: Uninterrupted, verdict: dict[str, Any]) -> None:
    names, moved = registry(job.config)
    verdict |= {
        "patterns": len(names),
        "patterns_not_as_uninterrupted": len({name for name, _ in names.items() ^ local.names.items()}),
        "patterns_with_two_first_times": moved,
    }
    assert set(names) == {(template.service, pattern_id) for template, pattern_id in story.ids.items()}
    assert (names, moved) == (local.names, 0)


def only_the_new_error_was_emitted(
    story: Story, job: ClusterJob, local: Uninterrupted, verdict: dict[str, Any]
) -> None:
    records = job.insight_records()
    bodies = [record.value for record in records]
    insights = [from_json(body) for body in bodies]
    revisions = Counter(dict(record.headers)["ce_id"] for record in records)
    about = {(i.kind, i.env, i.service, i.subject) for i in insights}
    novelty = ("error_pattern_new", "production", story.novelty.service, story.ids[story.novelty])
    verdict |= {
        "insights": dict(Counter(insight.kind for insight in last_revisions(bodies))),
        "insights_false": len(about - {novelty}),
        "insight_revisions": len(insights),
        "insight_revisions_twice": sum(count - 1 for count in revisions.values()),
    }
    assert about == {novelty}
    assert len({insight.insight_id for insight in insights}) == 1
    assert [fingerprint(insight) for insight in last_revisions(bodies)] == [
        fingerprint(insight) for insight in local.insights
    ]
    assert max(revisions.values()) == 1
    assert sorted(bodies) == job.table_bodies()
