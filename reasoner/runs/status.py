"""Status of a running job: state, checkpoints, restarts, what it has not read yet, and its counters."""

from collections.abc import Iterator
from typing import Final

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.group_offsets import committed_offsets, end_offsets
from reasoner.clients.topics import source_names
from reasoner.runs.savepoints import running
from state_schemas.contracts.settings import ReaderConfig
from udfs.insights.wording import elapsed

SHOWN: Final = ("records_folded_total", "records_late_total", "records_rejected_total", "insights_emitted_total")
# Beyond a limit of the job, or repaired: they do not grow in a healthy job (docs/sizing.md).
LIMITS: Final = (
    *("services_overflowed_total", "envs_overflowed_total", "names_overflowed_total", "lines_overflowed_total"),
    *("exceptions_overflowed_total", "call_sides_dropped_total", "messages_rejected_total", "texts_repaired_total"),
    *("lines_cut_total", "records_behind_total"),
)


def status_lines(config: ReaderConfig, rest: FlinkRest, now_ms: int) -> Iterator[str]:
    """Yield the lines of a job's status. now_ms: wall clock, epoch ms. Raises CommandFailed where it does not run."""
    job = running(rest, config.name)
    yield f"{config.name}: {job.state} for {elapsed(now_ms - job.start_ms)} on {rest.url} ({job.job_id})"
    yield f"restarts: {rest.restarts(job.job_id)}"
    yield _checkpoints(rest, job.job_id, now_ms)
    yield from _unread(config)
    counters = rest.counters(job.job_id)
    yield ", ".join(f"{name} {counters.get(name, 0):,}" for name in SHOWN)
    beyond = [f"{name} {counters[name]:,}" for name in LIMITS if counters.get(name)]
    yield f"beyond a limit: {', '.join(beyond)}; see docs/sizing.md" if beyond else "beyond a limit: nothing"


def _checkpoints(rest: FlinkRest, job_id: str, now_ms: int) -> str:
    found = rest.get(f"/jobs/{job_id}/checkpoints")
    counts, last = found["counts"], found["latest"]["completed"]
    text = f"checkpoints: {counts['completed']} complete, {counts['failed']} failed"
    if not last:
        return f"{text}; insights become visible with the first"
    age, took_s = elapsed(now_ms - last["latest_ack_timestamp"]), last["end_to_end_duration"] / 1000
    return f"{text}; the last {age} ago, in {took_s:.1f} s, {last['state_size'] / 1e6:.1f} MB"


def _unread(config: ReaderConfig) -> Iterator[str]:
    """Yield the number of messages behind the last checkpoint, for each topic that the job reads."""
    kafka = config.kafka
    read = committed_offsets(kafka.bootstrap_servers, kafka.group_id)
    for topic in source_names(kafka):
        ends = end_offsets(kafka.bootstrap_servers, [topic])
        behind = sum(max(0, end - read.get(part, 0)) for part, end in ends.items())
        yield f"{topic}: {behind:,} messages behind the last checkpoint"
