"""Journal of a job: the savepoints that this machine's commands took, one JSON line each, oldest first.

It lies in `$XDG_STATE_HOME/metric-reasoner` (`~/.local/state` by default), a file for each name of a job.
"""

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from reasoner.errors import WrongUse

LATEST = "latest"


class Savepoint(NamedTuple):
    """A savepoint that was completed. at: UTC, ISO 8601. cluster: REST address of the cluster."""

    at: str
    cluster: str
    job_id: str
    path: str


def journal_path(name: str) -> Path:
    """Return the file of the journal of the job with this name."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "metric-reasoner" / f"{name}.jsonl"


def record(name: str, cluster: str, job_id: str, path: str) -> None:
    """Add a savepoint to the journal."""
    file = journal_path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    entry = Savepoint(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), cluster, job_id, path)
    with file.open("a") as out:
        out.write(json.dumps(entry._asdict()) + "\n")


def savepoints(name: str) -> list[Savepoint]:
    """Return the savepoints of a job, oldest first."""
    file = journal_path(name)
    if not file.exists():
        return []
    return [Savepoint(**json.loads(line)) for line in file.read_text().splitlines()]


def resolved(name: str, cluster: str, savepoint: str) -> str:
    """Return the path of a savepoint; `latest` is the newest of the cluster in the journal, else WrongUse."""
    if savepoint != LATEST:
        return savepoint
    found = [entry for entry in savepoints(name) if entry.cluster == cluster]
    if not found:
        message = (
            f"found no savepoint of {name} on {cluster} in {journal_path(name)}; give its path, or leave --savepoint "
            "out: the job then continues at the committed offsets, without its models"
        )
        raise WrongUse(message)
    return found[-1].path
