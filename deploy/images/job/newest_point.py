"""Print the options by which `standalone-job` goes on from the newest checkpoint or savepoint of JOB_ID, or nothing.

The folders and the address of the store are those of FLINK_PROPERTIES. A container that is started again has no other
memory: Flink's high availability needs ZooKeeper or Kubernetes.
"""

import os
from datetime import datetime
from typing import NamedTuple

import yaml
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, S3FileSystem


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


def main() -> None:
    properties = {str(key): str(value) for key, value in yaml.safe_load(os.environ["FLINK_PROPERTIES"]).items()}
    job_id = os.environ["JOB_ID"]
    found = [
        *points(f"{properties['execution.checkpointing.dir']}/{job_id}", "chk-", properties),
        *points(properties["execution.checkpointing.savepoint-dir"], f"savepoint-{job_id[:6]}-", properties),
    ]
    if found:
        newest = max(found)
        # A checkpoint is Flink's own again, so that it is deleted when it is old; a savepoint stays.
        mode = "CLAIM" if newest.is_checkpoint else "NO_CLAIM"
        print("--fromSavepoint", newest.folder, "-D", f"execution.state-recovery.claim-mode={mode}", sep="\n")


if __name__ == "__main__":
    main()
