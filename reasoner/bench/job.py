"""How many spans a second the whole job takes: real broker, real cluster, all sinks, exactly-once, on one machine.

The topic is filled first; the job then reads it from the beginning. Steady state is between the first and the last
completed checkpoint, so that neither start-up nor compilation counts. Afterwards the job is drained, and the counts in
Iceberg must be exact, or there is no result.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jobs.config import JobConfig
from reasoner import lake
from reasoner.bench.processes import Usage
from reasoner.errors import CommandFailed
from reasoner.evaluate.result import Result
from reasoner.flink_rest import FlinkRest
from reasoner.job_process import write_config
from reasoner.load.message import Message
from reasoner.load.player import PlayOptions, play
from reasoner.load.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.stack.running import RunningStack, running
from reasoner.stack.settings import StackSettings
from reasoner.submit import submit

PARTITIONS: Final = 4
CHECKPOINT_MS: Final = 10_000
STALLED_S: Final = 120.0
STOP_DEADLINE_S: Final = 300.0
_SAMPLE_S: Final = 1.0


@dataclass
class Progress:
    """Spans folded, sampled over time; checkpoints: when each was completed. Times in ms of the machine's clock."""

    samples: list[tuple[int, int]] = field(default_factory=list)
    checkpoints: list[int] = field(default_factory=list)

    def at(self, time_ms: int) -> float:
        """Spans folded at a time, between samples on a straight line."""
        earlier = max((sample for sample in self.samples if sample[0] <= time_ms), default=self.samples[0])
        later = min((sample for sample in self.samples if sample[0] >= time_ms), default=self.samples[-1])
        if later[0] == earlier[0]:
            return earlier[1]
        return earlier[1] + (later[1] - earlier[1]) * (time_ms - earlier[0]) / (later[0] - earlier[0])

    def steady_spans_per_s(self) -> float:
        """Rate between the first and the last checkpoint that was completed before all was read."""
        done_ms = next((at_ms for at_ms, folded in self.samples if folded == self.samples[-1][1]), self.samples[-1][0])
        within = [at_ms for at_ms in self.checkpoints if at_ms <= done_ms]
        if len(within) < 2:
            message = f"{len(within)} checkpoints while the topic was read, expected 2 or more; take more spans"
            raise CommandFailed(message)
        return (self.at(within[-1]) - self.at(within[0])) * 1000 / (within[-1] - within[0])


def bench_job(messages: Iterable[Message], setting: str, spans: int, report: Callable[[str], None]) -> Result:
    """Runs the job over `messages`, which hold `spans` spans, none of them rejected. Minutes."""
    with tempfile.TemporaryDirectory(prefix="reasoner-bench-") as name:
        folder = Path(name)
        stack_settings = StackSettings(
            folder=folder / "stack", flink_taskmanagers=1, flink_slots=2, flink_taskmanager_memory="2400m"
        ).with_auto_ports()
        with running(stack_settings, ["kafka", "postgres", "flink"], report=report) as stack:
            config = _config(stack, folder)
            filled = _fill(messages, stack, config, report)
            usage, progress, busy = _run(stack, config, folder, spans, report)
            _require_exact(config, spans)
    scores = {
        "spans_per_s": round(progress.steady_spans_per_s()),
        "mb_per_s": round(progress.steady_spans_per_s() * filled / spans / 1e6, 1),
        "rss_mb_max": round(usage.all_rss_mb_max),
        "spans": float(spans),
        "bytes_per_span": round(filled / spans, 1),
        "checkpoints": float(len(progress.checkpoints)),
    }
    shares = [
        {"process": role, "cpu_s": round(cpu, 1), "rss_mb_max": round(usage.rss_mb_max[role])}
        for role, cpu in usage.cpu_s.items()
    ]
    return Result("bench job", setting, scores, [*shares, *busy])


def _config(stack: RunningStack, folder: Path) -> JobConfig:
    return JobConfig.model_validate(
        {
            "name": "bench",
            "kafka": {"bootstrap_servers": stack.kafka_bootstrap, "idle_ms": 0, "topics": {"logs": "", "metrics": ""}},
            "lake": {
                "uri": stack.postgres_jdbc_url.partition("?")[0],
                "user": "reasoner",
                "warehouse": f"file://{folder}/warehouse",
            },
            "engine": {
                "parallelism": 2,
                "checkpoint_interval_ms": CHECKPOINT_MS,
                "checkpoint_dir": f"file://{folder}/checkpoints",
            },
        }
    )


def _fill(messages: Iterable[Message], stack: RunningStack, config: JobConfig, report: Callable[[str], None]) -> int:
    topics = config.kafka.topics
    forever = TopicSpec(PARTITIONS, KEEP_FOR_EVER_MS)
    create_topics(stack.kafka_bootstrap, dict.fromkeys((topics.traces, topics.insights, topics.rejected), forever))
    lake.create_tables(config.lake)
    report("filling the topic")
    return play(messages, stack.kafka_bootstrap, {"traces": topics.traces}, PlayOptions()).value_bytes


def _run(
    stack: RunningStack, config: JobConfig, folder: Path, spans: int, report: Callable[[str], None]
) -> tuple[Usage, Progress, list[dict[str, Any]]]:
    rest, usage, progress = FlinkRest(stack.flink_rest_url), Usage(_roots(stack)), Progress()
    job_id = submit("insights", write_config(config, folder / "job.yaml"), stack.flink_rest_url)
    report(f"job {job_id} reads {spans} spans")
    moved_s = time.monotonic()
    while not progress.samples or progress.samples[-1][1] < spans:
        time.sleep(_SAMPLE_S)
        usage.sample()
        counters = rest.counters(job_id, "fold-traces")
        read = counters.get("records_folded_total", 0) + counters.get("records_rejected_total", 0)
        if not progress.samples or read > progress.samples[-1][1]:
            moved_s = time.monotonic()
        progress.samples.append((int(time.time() * 1000), read))
        if time.monotonic() - moved_s > STALLED_S or rest.restarts(job_id):
            message = f"the job stands at {read} of {spans} spans; see {stack.flink_rest_url}/jobs/{job_id}/exceptions"
            raise CommandFailed(message)
    progress.checkpoints = _checkpoint_times(rest, job_id)
    busy = _busy(rest, job_id)
    rest.stop(job_id, f"file://{folder}/savepoints", drain=True, deadline_s=STOP_DEADLINE_S)
    usage.sample()
    return usage, progress, busy


def _roots(stack: RunningStack) -> dict[int, str]:
    records = {name: stack.supervisor.record(name) for name in stack.supervisor.recorded_names()}
    return {record.pid: name for name, record in records.items() if record is not None}


def _checkpoint_times(rest: FlinkRest, job_id: str) -> list[int]:
    history = rest.get(f"/jobs/{job_id}/checkpoints")["history"]
    return sorted(entry["latest_ack_timestamp"] for entry in history if entry["status"] == "COMPLETED")


def _busy(rest: FlinkRest, job_id: str) -> list[dict[str, Any]]:
    """What each step did with its time since the start: the limiting stage is the one that is busy all the time."""
    rows = []
    for vertex in rest.get(f"/jobs/{job_id}")["vertices"]:
        metrics = vertex["metrics"]
        total = sum(metrics[f"accumulated-{state}-time"] for state in ("busy", "idle", "backpressured")) or 1
        rows.append(
            {
                "stage": vertex["name"][:60],
                "busy": round(metrics["accumulated-busy-time"] / total, 3),
                "backpressured": round(metrics["accumulated-backpressured-time"] / total, 3),
            }
        )
    return rows


def _require_exact(config: JobConfig, spans: int) -> None:
    rows = lake.read(
        config.lake, "latency_rollups", row_filter="dimension = 'service'", selected_fields=("resolution_s", "count")
    )
    sums = rows.group_by("resolution_s").aggregate([("count", "sum")]).to_pylist()
    wrong = [row for row in sums if row["count_sum"] != spans]
    if wrong or len(sums) != 3:
        message = f"the roll-ups hold {sums}, expected {spans} spans at each of 3 resolutions: no result"
        raise CommandFailed(message)
