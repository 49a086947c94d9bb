"""First state of a submitted job: Flink accepts a job before it has read its savepoint."""

from typing import Any, Final

from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed
from reasoner.waiting import wait_until

_STARTS: Final = ("INITIALIZING", "CREATED")
_DEADLINE_S: Final = 60.0  # a large savepoint on remote storage; what takes longer is said by `reasoner status`
_STEPS: Final = (
    ("Failed to rollback to checkpoint/savepoint", "give the savepoint of a job that has the same stages"),
    ("max parallelism", "set engine.max_parallelism as it was when the savepoint was taken"),
    ("Cannot find checkpoint or savepoint", "check the path; `--savepoint latest` takes that of the journal"),
)


def refuse_failed_start(rest: FlinkRest, job_id: str) -> None:
    """Return when the job has left its first state. Raises CommandFailed with Flink's reason where it has failed."""
    page = f"{rest.url}/#/job/{job_id}/exceptions"

    def state() -> str:
        found = rest.jobs().get(job_id, "")
        return "" if found in _STARTS else found

    if wait_until(state, f"job {job_id} leaves {_STARTS[0]}; see {page}", _DEADLINE_S) == "FAILED":
        causes = _causes(rest.get(f"/jobs/{job_id}/exceptions"))
        step = next((step for text, step in _STEPS if any(text in cause for cause in causes)), f"see {page}")
        message = f"job {job_id} failed as it started: {causes[-1]}; {step}"
        raise CommandFailed(message)


def _causes(exceptions: Any) -> list[str]:
    """Return the first line of the exception and of each of its causes, the innermost last."""
    entries = exceptions["exceptionHistory"]["entries"]
    trace = entries[0]["stacktrace"] if entries else "no exception is known"
    return [
        line.removeprefix("Caused by: ").partition(": ")[2] or line
        for number, line in enumerate(trace.splitlines())
        if not number or line.startswith("Caused by: ")
    ]
