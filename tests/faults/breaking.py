"""Faults of a running job: a TaskManager is killed, or the job stops with a savepoint and does not end event time.

And the memory that it takes.
"""

import os
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from reasoner.clients.flink_rest import FlinkRest
from reasoner.stack import RunningStack
from reasoner.stack.process import OWNER_VARIABLE
from reasoner.waiting import wait_until
from tests.services.job_runs import DRAIN_DEADLINE_S, ClusterJob, wait_for_state
from tests.support.crash import kill_taskmanager, start_taskmanager

CHECKPOINTS_BEFORE = 2


def busy_taskmanagers(rest: FlinkRest, job_id: str) -> list[int]:
    """Return the numbers of the TaskManagers that run subtasks of the job, ascending."""
    ids = {
        subtask["taskmanager-id"]
        for vertex in rest.get(f"/jobs/{job_id}")["vertices"]
        for subtask in rest.get(f"/jobs/{job_id}/vertices/{vertex['id']}")["subtasks"]
    }
    return sorted(int(name.removeprefix("flink-taskmanager-").partition("-")[0]) for name in ids)


def completed_checkpoints(rest: FlinkRest, job_id: str) -> int:
    """Return the number of checkpoints completed since the job started, restores included."""
    return int(rest.get(f"/jobs/{job_id}/checkpoints")["counts"]["completed"])


def wait_for_a_checkpoint(job: ClusterJob) -> int:
    """Wait until the job has a checkpoint of its own, and return how many it has.

    Before all its tasks run, Flink refuses a savepoint.
    """
    wait_until(lambda: completed_checkpoints(job.rest, job.job_id) > 0, "the job has a checkpoint", 120.0)
    return completed_checkpoints(job.rest, job.job_id)


def kill_once(stack: RunningStack, job: ClusterJob, messages: int, random: Random) -> dict[str, Any]:
    """Kill a busy TaskManager after `messages` messages and CHECKPOINTS_BEFORE checkpoints, and start it again.

    Returns the figures for the verdict: its number, messages and checkpoints at the kill, and the seconds to the next
    checkpoint.
    """
    rest, job_id = job.rest, job.job_id
    wanted = completed_checkpoints(rest, job_id) + CHECKPOINTS_BEFORE
    wait_until(
        lambda: completed_checkpoints(rest, job_id) >= wanted and job.messages_read()[0] >= messages,
        f"{wanted} checkpoints and {messages} messages read",
        300.0,
    )
    (read, sent), restarts = job.messages_read(), rest.restarts(job_id)
    number = random.choice(busy_taskmanagers(rest, job_id))
    checkpoints = completed_checkpoints(rest, job_id)
    kill_taskmanager(stack, number)
    killed_s = time.monotonic()
    start_taskmanager(stack, number)
    wait_until(lambda: rest.restarts(job_id) > restarts, "Flink has restarted the job", 120.0)
    wait_until(lambda: completed_checkpoints(rest, job_id) > checkpoints, "a checkpoint after the restart", 180.0)
    back_s = round(time.monotonic() - killed_s, 1)
    seen = {"messages_read": read, "messages_sent": sent, "checkpoints": checkpoints}
    return {"taskmanager": number, **seen, "next_checkpoint_after_s": back_s}


def stop_with_savepoint(job: ClusterJob) -> str:
    """Stop the job without draining it: event time does not end, and windows stay open in the savepoint."""
    folder = f"file://{job.folder}/savepoints"
    savepoint = job.rest.stop(job.job_id, folder, drain=False, deadline_s=DRAIN_DEADLINE_S)
    wait_for_state(job.rest, job.job_id, "FINISHED", DRAIN_DEADLINE_S)
    return savepoint


def memory_mb(folder: Path) -> dict[str, int]:
    """Return the resident memory of the processes of the cluster in MB, summed by kind of process."""
    mark = f"{OWNER_VARIABLE}={folder}".encode()
    sums: Counter[str] = Counter()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark not in (process / "environ").read_bytes():
                continue
            command = (process / "cmdline").read_bytes()
            resident_pages = int((process / "statm").read_text().split()[1])
        except OSError:
            continue
        kind = "jobmanager" if b"StandaloneSession" in command else "python" if b"python" in command[:80] else "other"
        kind = "taskmanager" if b"TaskManagerRunner" in command else kind
        sums[kind] += resident_pages * os.sysconf("SC_PAGE_SIZE")
    return {kind: size >> 20 for kind, size in sorted(sums.items())}
