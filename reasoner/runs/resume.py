"""Where a job goes on: what its last run has left."""

from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit
from urllib.request import url2pathname

from jobs.settings import JobConfig
from reasoner.clients import state_files
from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed, WrongUse, reason_of
from reasoner.runs import journal

LATEST: Final = "latest"


def point(config: JobConfig, rest: FlinkRest, savepoint: str) -> str:
    """Return the path of a savepoint; `latest` is where the last run of the job ended, "" where it left and had none.

    A job that was stopped has its savepoint. One that was cancelled, has failed or was killed goes on exactly from its
    last checkpoint, or from where it began if it had none. A run that has failed before it had a point is passed over:
    it has committed nothing. Raises WrongUse where the point is not known: an older one would count what came after it
    twice.
    """
    return savepoint if savepoint != LATEST else _latest(config, rest)


def has_run(name: str, rest: FlinkRest) -> bool:
    """Return whether the cluster knows a job of this name, or the journal knows one of this cluster."""
    is_known = any(job.name == name for job in rest.overview())
    return is_known or any(entry.cluster == rest.url for entry in journal.entries(name))


def local_path(address: str) -> Path | None:
    """Return the path of a `file:` address or of a plain path, None for another file system."""
    parts = urlsplit(address)
    return Path(url2pathname(parts.path)) if parts.scheme in ("", "file") else None


def _latest(config: JobConfig, rest: FlinkRest) -> str:
    runs = (job for job in rest.overview() if job.name == config.name)
    run = next((job for job in runs if job.state != "FAILED" or rest.last_checkpoint(job.job_id) is not None), None)
    at_cluster = (entry for entry in journal.entries(config.name) if entry.cluster == rest.url)
    entries = [entry for entry in at_cluster if entry.job_id != journal.REFUSED]
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
    """Return the last complete point of a run that the cluster has forgotten, or where that run began.

    None where neither is known. Raises CommandFailed where this machine cannot look.
    """
    if not entries:
        return None
    job_id = entries[0].job_id
    flink = rest.settings() | state_files.folders(config.engine)
    try:
        found = state_files.points(job_id, flink)
        begun = state_files.has_begun(job_id, flink)
    except OSError as error:
        message = (
            f"what job {job_id} has left in {flink.get(state_files.CHECKPOINTS)} cannot be looked at from here "
            f"({reason_of(error)}): give the path of its last checkpoint or savepoint"
        )
        raise CommandFailed(message) from error
    begin = next((entry.savepoint for entry in entries if isinstance(entry, journal.Start)), None)
    return max(found).path if found else (begin if begun else None)
