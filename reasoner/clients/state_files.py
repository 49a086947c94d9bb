"""Checkpoints and savepoints of Flink as files, on a disk of this machine or in S3: what a cluster has left behind."""

from collections.abc import Mapping
from datetime import datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from jobs.settings import Engine

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CHECKPOINTS: Final = "execution.checkpointing.dir"
SAVEPOINTS: Final = "execution.checkpointing.savepoint-dir"
_LIMIT_S: Final = 10.0  # of one request; AWS's client tries again


class Point(NamedTuple):
    """A complete checkpoint or savepoint; the newest is the largest. number: of a checkpoint in its job, else inf."""

    written: datetime
    number: float
    path: str

    @property
    def is_checkpoint(self) -> bool:
        return self.number < inf


def folders(engine: Engine) -> dict[str, str]:
    """Return the folders that the settings of a job name, by Flink's names; they override those of a cluster."""
    own = dict.fromkeys((CHECKPOINTS, SAVEPOINTS), engine.checkpoint_dir) | engine.flink
    return {name: own[name] for name in (CHECKPOINTS, SAVEPOINTS) if own[name]}


def points(job_id: str, flink: Mapping[str, str], own: Mapping[str, str]) -> list[Point]:
    """Return the checkpoints and savepoints of a job that are complete: those that have `_metadata`.

    flink: settings of Flink, which name its folders and the address of the store. own: the folders of the job, as
    `folders` gives them. It looks in both: a job whose folder was changed has left points in the other one, and a
    savepoint that was asked for without a folder lies in that of the cluster. Raises OSError if the store does not
    answer, or if a folder is neither on a disk nor in S3.
    """
    found = []
    for name, place, prefix in ((CHECKPOINTS, f"/{job_id}", "chk-"), (SAVEPOINTS, "", f"savepoint-{job_id[:6]}-")):
        for folder in sorted({flink.get(name, ""), own.get(name, "")} - {""}):
            found += _complete(f"{folder.rstrip('/')}{place}", prefix, flink)
    return found


def local_path(address: str) -> Path | None:
    """Return the path of a `file:` address or of a plain path, None for another file system."""
    parts = urlsplit(address)
    return Path(url2pathname(parts.path)) if parts.scheme in ("", "file") else None


def _store(address: str, flink: Mapping[str, str]) -> "tuple[FileSystem, str, str]":
    """Return the file system of an address, the prefix of its paths in Flink, and the path."""
    from pyarrow.fs import LocalFileSystem, S3FileSystem  # Slow to import, and most commands look at no store.

    if local := local_path(address):
        return LocalFileSystem(), "file://", str(local)
    parts = urlsplit(address)
    if parts.scheme in ("s3", "s3a"):
        endpoint = flink.get("s3.endpoint") or None
        region = flink.get("s3.endpoint.region") or ("us-east-1" if endpoint else None)
        limits = {"connect_timeout": _LIMIT_S, "request_timeout": _LIMIT_S}
        files = S3FileSystem(endpoint_override=endpoint, region=region, **limits)
        return files, f"{parts.scheme}://", f"{parts.netloc}{parts.path}"
    message = "neither a disk of this machine nor S3"
    raise OSError(message)


def _complete(folder: str, prefix: str, flink: Mapping[str, str]) -> list[Point]:
    from pyarrow.fs import FileSelector, FileType

    files, scheme, path = _store(folder, flink)
    listed = files.get_file_info(FileSelector(path, allow_not_found=True))
    names = [info.path for info in listed if info.base_name.startswith(prefix)]
    metadata = files.get_file_info([f"{name}/_metadata" for name in names])
    return [
        Point(info.mtime, float(name.rpartition("-")[2]) if prefix == "chk-" else inf, f"{scheme}{name}")
        for name, info in zip(names, metadata, strict=True)
        if info.type == FileType.File
    ]
