"""Agents that ship every ten minutes, all at once: the settings that `reasoner doctor` prints make a job that works."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.settings import JobConfig
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import last_revisions
from reasoner.recordings.player import play
from reasoner.runs.job_process import write_config
from reasoner.stack import RunningStack
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.breaking import memory_mb
from tests.faults.bursts import INTERVAL_MS, SLOW_SERVICE, Fleet
from tests.faults.conftest import setting
from tests.services.job_runs import ClusterJob, job_config, topics_in
from tests.support.driving import courses

pytestmark = pytest.mark.faults

PARTITIONS = 4  # of SpanProfile
BURSTS = 3
SLOW_MS = (INTERVAL_MS * 3 // 2, INTERVAL_MS * 9 // 5)  # in the second burst; its windows are final with the third


def doctor(config: JobConfig, folder: Path, url: str) -> str:
    """Return what `reasoner doctor` prints."""
    path = write_config(config, folder / "bursts.yaml")
    command = [str(Path(sys.executable).parent / "reasoner"), "doctor", "--config", str(path), "--target", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stdout


def checkpoints(rest: FlinkRest, job_id: str) -> dict[str, int]:
    """Return the number of checkpoints by outcome, and the longest one in ms."""
    found = rest.get(f"/jobs/{job_id}/checkpoints")
    summary = found["summary"]["end_to_end_duration"]
    return {"completed": found["counts"]["completed"], "failed": found["counts"]["failed"], "ms_max": summary["max"]}


def test_bursts(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    bootstrap, rest = stack.settings.kafka_bootstrap, FlinkRest(stack.settings.flink_rest_url)
    fleet = Fleet(
        start_ms=int(time.time() * 1_000) // 60_000 * 60_000 - (BURSTS + 1) * INTERVAL_MS,
        spans_per_burst=setting("BURST_SPANS", 6_000_000),
        slow_ms=SLOW_MS,
    )
    bursts = fleet.bursts(BURSTS)

    def config(detection: dict[str, str]) -> JobConfig:
        shipped = job_config(
            "bursts", bootstrap, stack.settings.postgres_jdbc_url, tmp_path, signals=("traces",),
            engine={"checkpoint_interval_ms": 10_000}, detection=detection,
        )  # fmt: skip
        return shipped.model_copy(update={"kafka": shipped.kafka.model_copy(update={"idle_ms": 30_000})})

    job = ClusterJob(config({}), rest, tmp_path)
    job.prepare(PARTITIONS)
    for _ in range(BURSTS - 1):
        play(next(bursts), bootstrap, topics_in(job.config))
    said = doctor(job.config, tmp_path, rest.url)
    (late_percent,) = re.findall(r"(\d+\.\d) % of \d+ records come too late", said)
    advised = dict(re.findall(r"set detection\.(\w+) to (\w+)", said))
    job = ClusterJob(config(advised), rest, tmp_path)
    said_then = doctor(job.config, tmp_path, rest.url)

    job = job.started()
    job.wait_until_read(900.0)
    burst = next(bursts)
    began_s = time.monotonic()
    play(burst, bootstrap, topics_in(job.config))
    job.wait_until_read(900.0)
    read_s = time.monotonic() - began_s
    wait_until(lambda: bool(job.insight_records()), "the planted fault is emitted", 120.0, 1.0)
    spans = BURSTS * fleet.spans_per_burst
    wait_until(lambda: rest.counters(job.job_id).get("records_folded_total") == spans, f"REST shows {spans}", 120.0)
    counters, restarts, state = rest.counters(job.job_id), rest.restarts(job.job_id), job.state()
    ended = last_revisions(record.value for record in job.insight_records())
    taken, memory = checkpoints(rest, job.job_id), memory_mb(tmp_path / "stack")
    job.drain()

    rollups, revisions = job.spans_in_rollups(), [from_json(record.value) for record in job.insight_records()]
    verdict |= {
        "spans_per_burst": fleet.spans_per_burst,
        "bursts": BURSTS,
        "late_percent_by_default": float(late_percent),
        "advised_by_doctor": advised,
        "records_late": counters.get("records_late_total", 0),
        "records_behind": counters.get("records_behind_total", 0),
        "spans_in_rollups": rollups,
        "insights": sorted(f"{insight.kind} {insight.service} {insight.status}" for insight in revisions),
        "last_burst_sent_and_read_s": round(read_s),
        "checkpoints": taken,
        "memory_mb": memory,
        "flink_num_restarts": restarts,
    }
    assert (state, restarts, taken["failed"]) == ("RUNNING", 0, 0)
    assert float(late_percent) > 70, "ten minutes with a lateness of two"
    assert advised.keys() == {"lateness_ms", "emit_when"}
    assert "fault  bursts-traces" not in said_then
    assert (counters.get("records_late_total", 0), counters.get("records_behind_total", 0)) == (0, 0)
    assert rollups == dict.fromkeys(RESOLUTIONS_S, spans)
    assert {(insight.kind, insight.service) for insight in ended} == {("latency_spike", f"service-{SLOW_SERVICE:03d}")}
    assert covers(fleet, ended)
    assert {(insight.kind, insight.service) for insight in revisions} == {(ended[0].kind, ended[0].service)}
    assert list(courses(revisions).values()) == [["open", "closed"]]
    verdict["pass"] = True


def covers(fleet: Fleet, ended: list[Insight]) -> bool:
    """Return whether the insight is of the time of the fault: it begins and ends within a window of it."""
    (insight,) = ended
    first_ms, last_ms = (fleet.start_ms + slow_ms for slow_ms in SLOW_MS)
    return abs(insight.window.start_ms - first_ms) <= 10_000 and abs(insight.window.end_ms - last_ms) <= 10_000
