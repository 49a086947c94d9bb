"""First state of a submitted job: Flink accepts a job before it has read its savepoint."""

from typing import Final

from reasoner.clients.flink_errors import causes
from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed
from reasoner.waiting import wait_until

_STARTS: Final = ("INITIALIZING", "CREATED")
_DEADLINE_S: Final = 60.0  # a large savepoint may take longer; `reasoner status` shows how it ends
_STEPS: Final = (
    ("Max parallelism mismatch", "set engine.max_parallelism as it was when the savepoint was taken"),
    ("Failed to rollback to checkpoint/savepoint", "give the savepoint of a job that has the same stages"),
    ("Cannot find checkpoint or savepoint", "check the path; `--savepoint latest` is where the last run ended"),
)


def refuse_failed_start(rest: FlinkRest, job_id: str) -> None:
    """Return when the job has left its first state, or _DEADLINE_S have passed.

    Raises CommandFailed with Flink's reason where it has failed.
    """
    try:
        left = wait_until(lambda: _left_first_state(rest, job_id), f"job {job_id} starts", _DEADLINE_S)
    except CommandFailed:
        return
    if left != "FAILED":
        return
    page = f"{rest.url}/#/job/{job_id}/exceptions"
    message = f"job {job_id} failed as it started: {why(rest.failure(job_id), f'see {page}')}"
    raise CommandFailed(message)


def why(trace: str, step: str) -> str:
    """Return the innermost cause of a start that failed, and the next step; `step` where there is no better one."""
    found = causes(trace)
    known = next((step for text, step in _STEPS if any(text in cause for cause in found)), step)
    return f"{found[-1]}; {known}" if known else found[-1]


def _left_first_state(rest: FlinkRest, job_id: str) -> str:
    """Return the state of a job that has left its first one, "" before."""
    state = rest.jobs().get(job_id, "")
    return "" if state in _STARTS else state
