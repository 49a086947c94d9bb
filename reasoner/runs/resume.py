"""Where a job goes on: what its last run has left."""

from collections.abc import Mapping
from typing import Final, NoReturn

from jobs.settings import JobConfig
from reasoner.clients import state_files
from reasoner.clients.flink_rest import FlinkRest, JobInfo
from reasoner.errors import CommandFailed, WrongUse, reason_of
from reasoner.runs import journal

LATEST: Final = "latest"


def point(config: JobConfig, rest: FlinkRest, savepoint: str) -> str:
    """Return the path of a savepoint; `latest` is where the last run of the job ended.

    A job that was stopped has its savepoint. One that was cancelled, has failed or was killed goes on exactly from its
    last checkpoint, or from where it began if the cluster still knows that it had none. A run that has failed before it
    had a point is passed over, as it has committed nothing; without another run, it is where that one began. Raises
    WrongUse where the point is not known: an older one would count what came after it twice.
    """
    return savepoint if savepoint != LATEST else _latest(config, rest)


def has_run(name: str, rest: FlinkRest) -> bool:
    """Return whether there is a place to go on from: of a run that is not passed over, or where one of those began."""
    runs = _runs(name, rest)
    return any(runs.values()) or bool(_entries(name, rest, runs) or _begin(name, rest, runs))


def _runs(name: str, rest: FlinkRest) -> dict[str, JobInfo | None]:
    """Return the runs that the cluster knows by id, the last first; None for one that is passed over."""
    runs = (job for job in rest.overview() if job.name == name)
    return {
        job.job_id: None if job.state == "FAILED" and rest.last_checkpoint(job.job_id) is None else job for job in runs
    }


def _entries(name: str, rest: FlinkRest, runs: Mapping[str, JobInfo | None]) -> list[journal.Entry]:
    """Return the entries of the journal for this cluster, without those of upgrades and runs that came to nothing."""
    passed = {journal.REFUSED, *(job_id for job_id, run in runs.items() if run is None)}
    return [entry for entry in journal.entries(name) if entry.cluster == rest.url and entry.job_id not in passed]


def _begin(name: str, rest: FlinkRest, runs: Mapping[str, JobInfo | None]) -> str:
    """Return the savepoint of the last start that was passed over; "" where it had none, or is not in the journal."""
    starts = [start for start in journal.starts(name, rest.url) if start.job_id in runs and not runs[start.job_id]]
    return starts[-1].savepoint if starts else ""


def _latest(config: JobConfig, rest: FlinkRest) -> str:
    runs = _runs(config.name, rest)
    run = next((run for run in runs.values() if run), None)
    entries = _entries(config.name, rest, runs)
    if not run and not entries and (begin := _begin(config.name, rest, runs)):
        return begin
    job_id = run.job_id if run else (entries[-1].job_id if entries else "")
    of_run = [entry for entry in entries if entry.job_id == job_id]
    if any(isinstance(entry, journal.Drained) for entry in of_run):
        _unknown(config, rest, f"job {job_id} was drained, so nothing goes on from it")
    stopped = [entry.path for entry in of_run if isinstance(entry, journal.Savepoint) and entry.is_end]
    if stopped and (run is None or run.state == "FINISHED"):
        return stopped[-1]
    if run and run.state == "FINISHED":
        path = rest.last_point(job_id)
        _unknown(config, rest, f"job {job_id} was stopped by another command; unless it was drained, give {path}")
    found = (rest.last_point(job_id) or None) if run else _left_behind(config, rest, of_run)
    if found is None:
        taken = [entry for entry in of_run if isinstance(entry, journal.Savepoint)]
        older = f"; {taken[-1].path} was taken at {taken[-1].at}, while it ran" if taken else ""
        _unknown(config, rest, f"the last checkpoint of job {job_id or config.name} is not known here{older}")
    return found


def _unknown(config: JobConfig, rest: FlinkRest, why: str) -> NoReturn:
    known = sorted({entry.cluster for entry in journal.entries(config.name)} - {rest.url})
    others = f"; the journal has {', '.join(known)}" if known else ""
    message = (
        f"found no place where {config.name} ended on {rest.url}: {why} ({journal.journal_path(config.name)}{others}); "
        "give a path, or leave --savepoint out: the job then starts at the committed offsets, without its models"
    )
    raise WrongUse(message)


def _left_behind(config: JobConfig, rest: FlinkRest, entries: list[journal.Entry]) -> str | None:
    """Return the last complete point of a run that the cluster has forgotten; None where there is none.

    Where the run began is no such point: a run that was stopped by another command has left no checkpoint either.
    Raises WrongUse for a savepoint that may be of a drained job, CommandFailed where this machine cannot look.
    """
    if not entries:
        return None
    job_id, flink = entries[0].job_id, rest.settings()
    own = state_files.folders(config.engine)
    try:
        found = state_files.points(job_id, flink, own)
    except OSError as error:
        place = own.get(state_files.CHECKPOINTS) or flink.get(state_files.CHECKPOINTS)
        message = (
            f"what job {job_id} has left in {place} cannot be looked at from here ({reason_of(error)}): give the path "
            "of its last checkpoint or savepoint"
        )
        raise CommandFailed(message) from error
    if not found:
        return None
    newest = max(found)
    taken = {_name(entry.path) for entry in entries if isinstance(entry, journal.Savepoint)}
    if not newest.is_checkpoint and _name(newest.path) not in taken:
        _unknown(
            config, rest, f"job {job_id} has a savepoint of another command; unless it was drained, give {newest.path}"
        )
    # Flink deletes the checkpoints of a job that is stopped or drained: without one, the end may lie in another folder.
    return newest.path if any(point.is_checkpoint for point in found) else None


def _name(path: str) -> str:
    """Return the last part of a path: Flink writes file:/ where others write file:///."""
    return path.rstrip("/").rpartition("/")[2]
