"""Spans per second of the whole job: real broker, real cluster, all sinks, exactly-once, on one machine.

The topic is filled first; then the job reads it from the beginning. The steady state is the time between the first and
the last completed checkpoint, so that start-up and compilation do not count. At the end the job is drained; if the
counts in Iceberg are not exact, there is no result.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from jobs.settings import Detection, Engine, JobConfig
from reasoner.bench.processes import Usage
from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.errors import CommandFailed
from reasoner.evaluate.result import Result
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.runs.job_process import write_config
from reasoner.runs.submit import Submission
from reasoner.stack.running import RunningStack, running
from reasoner.stack.settings import POSTGRES_USER, StackSettings
from state_schemas.contracts.settings import Kafka, Lake, Topics
from state_schemas.telemetry.signals import SignalType

PARTITIONS: Final = 4
STALLED_S: Final = 300.0  # one second of reading sparse traffic can be hours of event time, with all their windows
STOP_DEADLINE_S: Final = 300.0
IDLE_MS: Final = 2_000
THREADS_SHOWN: Final = 16
CORES_FULL: Final = 0.9  # share of all cores above which the machine is the limit, not a stage
_SAMPLE_S: Final = 2.0  # seconds between samples; each is a request to the JobManager, which uses the same cores


def _part(part: float, whole: float) -> float:
    return round(part / whole, 3) if whole else 0.0


def limit(rows: list[dict[str, Any]], cores_used: float, cores: int) -> dict[str, Any]:
    """Return what limits the throughput: the machine if its cores are busy, else the stage that is busy the longest."""
    busiest = max((row for row in rows if "stage" in row), key=lambda row: row["busy"])
    limited_by = f"CPU: {cores_used:.2f} of {cores} cores" if cores_used > CORES_FULL * cores else "stage"
    return {"limited_by": limited_by, "busiest_stage": busiest["stage"], "busy": busiest["busy"]}


class Checkpoint(NamedTuple):
    """A completed checkpoint: when it was triggered by the machine's clock, its duration, and the bytes written."""

    triggered_ms: int
    took_ms: int
    size_bytes: int


@dataclass
class Progress:
    """Measurements while the job ran; times in ms of the machine's clock.

    - samples: (time, spans folded).
    - checkpoints: by number.
    - profile: (time, CPU seconds so far by (role, thread), {stage: (busy, backpressured, all)}).
    - state_bytes: largest size of the state of each stage in a checkpoint.
    - drained_ms: when all was processed and written.
    """

    samples: list[tuple[int, int]] = field(default_factory=list)
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    profile: list[tuple[int, dict[tuple[str, str], float], dict[str, tuple[int, int, int]]]] = field(
        default_factory=list
    )
    state_bytes: dict[str, int] = field(default_factory=dict)
    drained_ms: int = 0

    def whole_per_s(self) -> float:
        """Return the spans a second from the first that was read until all were processed, up to 2 s too few."""
        before_ms = [at_ms for at_ms, folded in self.samples if not folded]
        return 1000 * self.samples[-1][1] / (self.drained_ms - (before_ms or [self.samples[0][0]])[-1])

    def steady_ms(self) -> tuple[int, int]:
        """Return the ends of the first and the last checkpoint that were completed before all spans were read."""
        done_ms = next(at_ms for at_ms, folded in self.samples if folded == self.samples[-1][1])
        ends = sorted(checkpoint.triggered_ms + checkpoint.took_ms for checkpoint in self.checkpoints.values())
        within = [end_ms for end_ms in ends if end_ms <= done_ms]
        if len(within) < 2:
            message = f"{len(within)} checkpoints while the topic was read, expected 2 or more; take more spans"
            raise CommandFailed(message)
        return within[0], within[-1]

    def steady_spans_per_s(self) -> float:
        """Return the slope of a line through all samples of the steady state; each sample is up to two seconds old."""
        first_ms, last_ms = self.steady_ms()
        within = np.array([sample for sample in self.samples if first_ms <= sample[0] <= last_ms], np.float64)
        slope = np.polyfit(within[:, 0] - first_ms, within[:, 1], 1)[0]
        return float(slope) * 1000

    def steady_profile(self) -> list[dict[str, Any]]:
        """Return the time shares of each stage and the cores used by each kind of thread, in the steady state."""
        first_ms, last_ms = self.steady_ms()
        within = [sample for sample in self.profile if first_ms <= sample[0] <= last_ms]
        if len(within) < 2:
            return []
        (start_ms, threads, stages), (end_ms, threads_after, stages_after) = within[0], within[-1]
        rows: list[dict[str, Any]] = []
        for name, after in stages_after.items():
            busy, waited, total = (new - old for new, old in zip(after, stages.get(name, (0, 0, 0)), strict=True))
            rows.append({"stage": name, "busy": _part(busy, total), "backpressured": _part(waited, total)})
        cores = {
            key: (spent_s - threads.get(key, 0.0)) * 1000 / (end_ms - start_ms)
            for key, spent_s in threads_after.items()
        }
        for (role, name), used in sorted(cores.items(), key=lambda item: -item[1])[:THREADS_SHOWN]:
            rows.append({"process": role, "threads": name, "cores": round(used, 3)})
        return [limit(rows, sum(cores.values()), os.cpu_count() or 1), *rows]


@dataclass(frozen=True, slots=True)
class BenchInput:
    """Messages with `spans` spans in total, none of which is rejected.

    - services: largest number of services in the messages.
    - paced: whether messages are sent while the job runs, at the pace of their timestamps, instead of before it.
    """

    setting: str
    messages: Iterable[Message]
    spans: int
    services: int = 0
    paced: bool = False
    job: str = "insights"
    rules: Path | None = None


class Sizes(NamedTuple):
    """Sizes of the processes: the settings of the stack, without its folder and ports, and the engine's."""

    stack: StackSettings
    engine: Engine


# For throughput: two subtasks in one TaskManager, short checkpoints.
FAST: Final = Sizes(
    StackSettings(flink_taskmanager_memory="2048m", flink_jobmanager_memory="896m", kafka_heap_mb=512),
    Engine(parallelism=2, checkpoint_interval_ms=10_000),
)
DEFAULT: Final = Sizes(StackSettings(), Engine())


@dataclass(frozen=True, slots=True)
class _Measurement:
    """A measurement on a running stack. folder: for the settings, tables, checkpoints and savepoints of the job."""

    stack: RunningStack
    folder: Path
    given: BenchInput
    engine: Engine
    profile: bool
    report: Callable[[str], None]

    @property
    def config(self) -> JobConfig:
        address, uri = self.stack.settings.kafka_bootstrap, self.stack.settings.postgres_jdbc_url.partition("?")[0]
        checkpoints = f"file://{self.folder}/checkpoints"
        return JobConfig(
            name="bench",
            # The job of rules alone reads insights too, of which there are none.
            kafka=Kafka(
                bootstrap_servers=address,
                idle_ms=0 if self.given.job == "insights" else IDLE_MS,
                topics=Topics(logs="", metrics=""),
            ),
            lake=Lake(uri=uri, user=POSTGRES_USER, warehouse=f"file://{self.folder}/warehouse"),
            engine=self.engine.model_copy(update={"checkpoint_dir": checkpoints}),
            detection=Detection(
                services_max=max(self.given.services, Detection().services_max), rules=self.given.rules
            ),
        )

    def run(self) -> tuple[Usage, Progress, dict[str, int]]:
        """Run the job until all spans are read, and drain it. Raises CommandFailed if it stops or is restarted."""
        roots = {record.pid: record.name for record in self.stack.supervisor.running()}
        rest, usage, progress = FlinkRest(self.stack.settings.flink_rest_url), Usage(roots), Progress()
        file = write_config(self.config, self.folder / "job.yaml")
        job_id = Submission(self.given.job, file).submit(rest.url)
        page = f"{rest.url}/jobs/{job_id}/exceptions"
        self.report(f"job {job_id} reads {self.given.spans} spans")
        moved_s, read = time.monotonic(), 0
        while read < self.given.spans:
            time.sleep(_SAMPLE_S)
            usage.sample()
            counters = rest.counters(job_id, "fold-traces")
            before, read = read, counters.get("records_folded_total", 0)
            at_ms = int(time.time() * 1000)
            progress.samples.append((at_ms, read))
            new = _checkpoints(rest, job_id).items() - progress.checkpoints.items()
            progress.checkpoints |= dict(new)
            for number, _ in new:
                for stage, size_bytes in _state_bytes(rest, job_id, number).items():
                    progress.state_bytes[stage] = max(size_bytes, progress.state_bytes.get(stage, 0))
            if self.profile:
                progress.profile.append((at_ms, usage.threads_cpu_s(), _stage_times(rest, job_id)))
            moved_s = time.monotonic() if read > before else moved_s
            if time.monotonic() - moved_s > STALLED_S:
                message = f"the job stopped at {read} of {self.given.spans} spans; see {page}"
                raise CommandFailed(message)
        if rest.restarts(job_id):
            message = f"the job was restarted during the measurement; see {page}"
            raise CommandFailed(message)
        counters = rest.counters(job_id)
        rest.stop(job_id, f"file://{self.folder}/savepoints", drain=True, deadline_s=STOP_DEADLINE_S)
        progress.drained_ms = int(time.time() * 1000)
        usage.sample()
        return usage, progress, counters

    def require_exact(self) -> None:
        """Check that the roll-ups hold each span once at each resolution. Raises CommandFailed."""
        rows = lake.read(
            self.config.lake,
            "latency_rollups",
            row_filter="dimension = 'service'",
            selected_fields=("resolution_s", "count"),
        )
        sums = rows.group_by("resolution_s").aggregate([("count", "sum")]).to_pylist()
        wrong = [row for row in sums if row["count_sum"] != self.given.spans]
        if wrong or len(sums) != 3:
            message = f"the roll-ups hold {sums}, expected {self.given.spans} spans at each of 3 resolutions: no result"
            raise CommandFailed(message)


class Measured(NamedTuple):
    """A run of a job. filled_bytes: of all messages. counters: of all steps, added up. matches: in the table."""

    usage: Usage
    progress: Progress
    filled_bytes: int
    counters: dict[str, int]
    matches: int


def measured(given: BenchInput, sizes: Sizes, *, profile: bool, report: Callable[[str], None]) -> Measured:
    """Run the job over these messages. Raises CommandFailed if it stops, is restarted or loses spans."""
    with tempfile.TemporaryDirectory(prefix="reasoner-bench-") as name:
        folder = Path(name)
        stack_settings = sizes.stack.model_copy(update={"folder": folder / "stack"}).with_auto_ports()
        with (
            running(stack_settings, ["kafka", "postgres", "flink"], report=report) as stack,
            ThreadPoolExecutor(1) as sender,
        ):
            measurement = _Measurement(stack, folder, given, sizes.engine, profile, report)
            kafka, names = measurement.config.kafka, measurement.config.kafka.topics
            forever = TopicSpec(PARTITIONS, KEEP_FOR_EVER_MS)
            create_topics(
                kafka.bootstrap_servers, dict.fromkeys((names.traces, names.insights, names.rejected), forever)
            )
            lake.create_tables(measurement.config.lake)
            options = PlayOptions(speed=1.0 if given.paced else None)
            topics: dict[SignalType, str] = {"traces": names.traces}
            sending = sender.submit(play, given.messages, kafka.bootstrap_servers, topics, options)
            if not given.paced:
                report("filling the topic")
                sending.result()
            usage, progress, counters = measurement.run()
            filled_bytes = sending.result().value_bytes
            if given.job == "insights":
                measurement.require_exact()
            matches = lake.read(measurement.config.lake, "sequence_matches", selected_fields=("insight_id",))
    return Measured(usage, progress, filled_bytes, counters, len(matches["insight_id"].unique()))


def bench_job(given: BenchInput, sizes: Sizes, *, profile: bool, report: Callable[[str], None]) -> Result:
    """Run the job over these messages; takes minutes. profile: also return where the time went."""
    usage, progress, filled_bytes, *_ = measured(given, sizes, profile=profile, report=report)
    spans_per_s = progress.steady_spans_per_s()
    scores = {
        "spans_per_s": round(spans_per_s),
        "mb_per_s": round(spans_per_s * filled_bytes / given.spans / 1e6, 1),
        "rss_mb_max": round(usage.all_rss_mb_max),
        "spans": float(given.spans),
        "bytes_per_span": round(filled_bytes / given.spans, 1),
        "checkpoints": float(len(progress.checkpoints)),
        "checkpoint_ms_max": float(max(checkpoint.took_ms for checkpoint in progress.checkpoints.values())),
        "checkpoint_mb_max": round(max(checkpoint.size_bytes for checkpoint in progress.checkpoints.values()) / 1e6, 1),
    }
    shares = [
        {"process": role, "cpu_s": round(cpu, 1), "rss_mb_max": round(usage.rss_mb_max[role])}
        for role, cpu in usage.cpu_s.items()
    ]
    return Result("bench job", given.setting, scores, [*shares, *(progress.steady_profile() if profile else [])])


def _checkpoints(rest: FlinkRest, job_id: str) -> dict[int, Checkpoint]:
    """Return the newest completed checkpoints by number; Flink keeps ten."""
    history = rest.get(f"/jobs/{job_id}/checkpoints")["history"]
    fields = ("trigger_timestamp", "end_to_end_duration", "checkpointed_size")
    done = [entry for entry in history if entry["status"] == "COMPLETED"]
    return {int(entry["id"]): Checkpoint(*(int(entry[field]) for field in fields)) for entry in done}


def _state_bytes(rest: FlinkRest, job_id: str, checkpoint: int) -> dict[str, int]:
    """Return the size of the state of each stage in a checkpoint."""
    names = {vertex["id"]: vertex["name"] for vertex in rest.get(f"/jobs/{job_id}")["vertices"]}
    tasks = rest.get(f"/jobs/{job_id}/checkpoints/details/{checkpoint}")["tasks"]
    return {names[vertex]: int(task["checkpointed_size"]) for vertex, task in tasks.items()}


def _stage_times(rest: FlinkRest, job_id: str) -> dict[str, tuple[int, int, int]]:
    """Return (busy, backpressured, all) ms of each stage so far, summed over its subtasks."""
    found = {}
    for vertex in rest.get(f"/jobs/{job_id}")["vertices"]:
        spent = [vertex["metrics"][f"accumulated-{state}-time"] for state in ("busy", "backpressured", "idle")]
        busy, waited, idle = (0 if value == "NaN" else int(value) for value in spent)  # not started
        found[vertex["name"][:60]] = (busy, waited, busy + waited + idle)
    return found
