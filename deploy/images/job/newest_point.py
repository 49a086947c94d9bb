"""Print the options by which `standalone-job` goes on from the newest checkpoint or savepoint of JOB_ID, or nothing.

Its arguments are those of `standalone-job`. It looks in the folders of FLINK_PROPERTIES and in those of the job's
settings (`engine`). The address of the store is that of FLINK_PROPERTIES. A container that is started again has no
other memory: Flink's high availability needs ZooKeeper or Kubernetes.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import yaml

from jobs.settings import JobConfig
from reasoner.clients import state_files
from state_schemas.contracts import settings
from state_schemas.contracts.settings import BadConfig


def folders_of_job(arguments: Sequence[str]) -> dict[str, str]:
    """Return the folders that the job's settings name, by Flink's names. Raises BadConfig if they cannot be read."""
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--settings")
    given, _ = parser.parse_known_args(arguments)
    if given.config:
        return state_files.folders(settings.load(given.config, JobConfig).engine)
    if given.settings:
        return state_files.folders(settings.parsed(given.settings, "--settings", JobConfig).engine)
    return {}


def main() -> None:
    properties = {str(key): str(value) for key, value in yaml.safe_load(os.environ["FLINK_PROPERTIES"]).items()}
    try:
        found = state_files.points(os.environ["JOB_ID"], properties, folders_of_job(sys.argv[1:]))
    except (BadConfig, OSError) as error:
        sys.exit(str(error))
    if found:
        newest = max(found)
        # A checkpoint is Flink's own again, so that it is deleted when it is old; a savepoint stays.
        mode = "CLAIM" if newest.is_checkpoint else "NO_CLAIM"
        print("--fromSavepoint", newest.path, "-D", f"execution.state-recovery.claim-mode={mode}", sep="\n")


if __name__ == "__main__":
    main()
