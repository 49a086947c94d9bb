"""Print the options by which `standalone-job` goes on from the newest checkpoint or savepoint of JOB_ID, or nothing.

Its arguments are those of `standalone-job`. It looks in the folders of FLINK_PROPERTIES and in those of the job's
settings (`engine`), which override them: a job whose folder was changed goes on from where it was. The address of the
store is that of FLINK_PROPERTIES. A container that is started again has no other memory: Flink's high availability
needs ZooKeeper or Kubernetes.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import yaml
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, S3FileSystem

from jobs.settings import JobConfig
from state_schemas.contracts import settings
from state_schemas.contracts.settings import BadConfig

CHECKPOINTS: Final = "execution.checkpointing.dir"
SAVEPOINTS: Final = "execution.checkpointing.savepoint-dir"


class Point(NamedTuple):
    """A complete checkpoint or savepoint; the newest is the largest."""

    written: datetime
    folder: str
    is_checkpoint: bool


def store(address: str, properties: dict[str, str]) -> tuple[FileSystem, str, str]:
    """Return the file system of an address, the prefix of its paths in Flink, and the path."""
    scheme, _, path = address.rpartition("://")
    if scheme in ("s3", "s3a"):
        endpoint = properties.get("s3.endpoint") or None
        region = properties.get("s3.endpoint.region") or ("us-east-1" if endpoint else None)
        return S3FileSystem(endpoint_override=endpoint, region=region), f"{scheme}://", path
    return LocalFileSystem(), "file://", path


def points(folder: str, prefix: str, properties: dict[str, str]) -> list[Point]:
    """Return the complete ones among the folders whose names begin with `prefix`: those that have `_metadata`."""
    files, scheme, path = store(folder, properties)
    found = files.get_file_info(FileSelector(path, allow_not_found=True))
    folders = [info.path for info in found if info.base_name.startswith(prefix)]
    complete = [
        info for info in files.get_file_info([f"{name}/_metadata" for name in folders]) if info.type == FileType.File
    ]
    return [Point(info.mtime, f"{scheme}{info.path.removesuffix('/_metadata')}", prefix == "chk-") for info in complete]


def folders_of_job(arguments: Sequence[str]) -> dict[str, str]:
    """Return the folders that the job's settings name, by Flink's names. Raises BadConfig if they cannot be read."""
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--settings")
    given, _ = parser.parse_known_args(arguments)
    if given.config:
        engine = settings.load(given.config, JobConfig).engine
    elif given.settings:
        engine = settings.parsed(given.settings, "--settings", JobConfig).engine
    else:
        return {}
    own = dict.fromkeys((CHECKPOINTS, SAVEPOINTS), engine.checkpoint_dir) | engine.flink
    return {name: own[name] for name in (CHECKPOINTS, SAVEPOINTS) if own[name]}


def main() -> None:
    properties = {str(key): str(value) for key, value in yaml.safe_load(os.environ["FLINK_PROPERTIES"]).items()}
    job_id = os.environ["JOB_ID"]
    try:
        of_job = folders_of_job(sys.argv[1:])
    except BadConfig as error:
        sys.exit(str(error))
    found = [
        point
        for folders in (properties, of_job)
        for key, place, prefix in ((CHECKPOINTS, f"/{job_id}", "chk-"), (SAVEPOINTS, "", f"savepoint-{job_id[:6]}-"))
        if key in folders
        for point in points(folders[key] + place, prefix, properties)
    ]
    if found:
        newest = max(found)
        # A checkpoint is Flink's own again, so that it is deleted when it is old; a savepoint stays.
        mode = "CLAIM" if newest.is_checkpoint else "NO_CLAIM"
        print("--fromSavepoint", newest.folder, "-D", f"execution.state-recovery.claim-mode={mode}", sep="\n")


if __name__ == "__main__":
    main()
