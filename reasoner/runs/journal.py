"""Journal of a job: its starts and its savepoints by this machine's commands, one JSON line each, oldest first.

It lies in `$XDG_STATE_HOME/metric-reasoner` (`~/.local/state` by default), a file for each name of a job. Only its user
may read it: settings can hold passwords of the Kafka client.
"""

import time
from pathlib import Path
from typing import Final

import msgspec

from reasoner.errors import CommandFailed
from reasoner.folders import state_folder

REFUSED: Final = ""
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


class Savepoint(msgspec.Struct, frozen=True, tag="savepoint"):
    """A savepoint that was completed. at: UTC, ISO 8601. cluster: REST address of the cluster.

    is_end: whether the job was stopped with it.
    """

    at: str
    cluster: str
    job_id: str
    path: str
    is_end: bool = False


class Start(msgspec.Struct, frozen=True, tag="start"):
    """A job that a cluster took, or an upgrade that it refused.

    - job_id: REFUSED for an upgrade that the cluster did not take.
    - version: of this package.
    - settings: text of the YAML file.
    - savepoint: where the job began; "" without one.
    - replaces: id of the job that an upgrade stopped for this one; "" if it was no upgrade.
    """

    at: str
    cluster: str
    job_id: str
    job: str
    version: str
    settings: str
    savepoint: str = ""
    replaces: str = ""


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """A job that was stopped for good: its models are forgotten, its windows are final, and nothing goes on from it."""

    at: str
    cluster: str
    job_id: str


Entry = Savepoint | Start | Drained


def now() -> str:
    """Return the time in UTC as ISO 8601, for an entry."""
    return time.strftime(TIME_FORMAT, time.gmtime())


def journal_path(name: str) -> Path:
    """Return the file of the journal of the job with this name."""
    return state_folder() / f"{name}.jsonl"


def check(name: str) -> None:
    """Check that the journal can be written, before anything is done that it has to remember. Raises CommandFailed."""
    try:
        file = journal_path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        message = f"the journal of {name} cannot be written ({error}), nothing was done: set XDG_STATE_HOME to a folder"
        raise CommandFailed(message) from error


def record(name: str, entry: Entry) -> None:
    """Add an entry to the journal, which `check` has prepared."""
    with journal_path(name).open("ab") as out:
        out.write(msgspec.json.encode(entry) + b"\n")


def entries(name: str) -> list[Entry]:
    """Return the entries of a job, oldest first. Raises CommandFailed where a line cannot be read."""
    file = journal_path(name)
    if not file.exists():
        return []
    try:
        lines = (msgspec.json.decode(line, type=dict[str, object]) for line in file.read_bytes().splitlines())
        # Before starts were recorded too, a line was a savepoint and had no type.
        return [msgspec.convert({"type": "savepoint", **line}, type=Entry) for line in lines]
    except msgspec.DecodeError as error:
        message = f"{file} is not a journal of savepoints ({error}): move it away, and name the savepoint by its path"
        raise CommandFailed(message) from error


def starts(name: str, cluster: str) -> list[Start]:
    """Return the starts of a job on a cluster, oldest first."""
    return [entry for entry in entries(name) if isinstance(entry, Start) and entry.cluster == cluster]
