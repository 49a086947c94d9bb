"""Where a job goes on: the newest of its savepoints and of the checkpoints that its last run has left."""

from calendar import timegm
from collections.abc import Iterator
from pathlib import Path
from time import strptime
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from jobs.settings import JobConfig
from reasoner.clients.flink_rest import FlinkRest, Retained
from reasoner.errors import WrongUse
from reasoner.runs import journal

LATEST: Final = "latest"


def point(config: JobConfig, rest: FlinkRest, savepoint: str) -> str:
    """Return the path of a savepoint; `latest` is where the last run of the job ended, else WrongUse."""
    return savepoint if savepoint != LATEST else _latest(config, rest)


def local_path(address: str) -> Path | None:
    """Return the path of a `file:` address or of a plain path, None for another file system."""
    parts = urlsplit(address)
    return Path(url2pathname(parts.path)) if parts.scheme in ("", "file") else None


def _latest(config: JobConfig, rest: FlinkRest) -> str:
    """Return the newest point of the last run.

    A job that was stopped has its savepoint alone: its checkpoints are behind it, or removed. One that was cancelled,
    has failed or was killed goes on exactly from its last checkpoint.
    """
    name = config.name
    run = next((job for job in rest.overview() if job.name == name), None)
    entries = [entry for entry in journal.entries(name) if entry.cluster == rest.url]
    job_id = run.job_id if run else (entries[-1].job_id if entries else "")
    points = [_point_of(entry) for entry in entries if isinstance(entry, journal.Savepoint) and entry.job_id == job_id]
    if run and run.state != "FINISHED":
        points += filter(None, [rest.retained(job_id)])
    if any(isinstance(entry, journal.Drained) and entry.job_id == job_id for entry in entries):
        points = []
    elif job_id and not run:  # the cluster has ended with its memory of the job
        points += _left_on_disk(config.engine.checkpoint_dir or rest.setting("execution.checkpointing.dir"), job_id)
    if not points:
        ended = f"; job {job_id} was drained, or stopped by another command" if run and run.state == "FINISHED" else ""
        message = (
            f"found no savepoint or checkpoint of {name} on {rest.url}, nor in {journal.journal_path(name)}{ended}; "
            "give its path, or leave --savepoint out: the job then starts at the committed offsets, without its models"
        )
        raise WrongUse(message)
    return max(points, key=lambda found: found.completed_ms).path


def _point_of(entry: journal.Savepoint) -> Retained:
    return Retained(entry.path, timegm(strptime(entry.at, journal.TIME_FORMAT)) * 1000)


def _left_on_disk(checkpoints: str, job_id: str) -> Iterator[Retained]:
    """Yield the checkpoints of a job in a local folder; one without `_metadata` is not complete."""
    folder = local_path(checkpoints) if checkpoints else None
    for found in (folder / job_id).glob("chk-*/_metadata") if folder else ():
        yield Retained(f"file://{found.parent}", int(found.stat().st_mtime * 1000))
