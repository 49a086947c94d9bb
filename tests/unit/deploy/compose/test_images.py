"""Dockerfiles and what they put into the image of the job."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[4]
IMAGES: Final = ROOT / "deploy/images"
DOCKERFILES: Final = sorted(IMAGES.glob("*/Dockerfile"))
JOB_ID: Final = "00000000000000000000000000000001"


def pins(lock: str) -> set[str]:
    return set(re.findall(r"^[a-z0-9.-]+==\S+", (ROOT / "locks" / lock).read_text(), re.MULTILINE))


def test_image_has_the_versions_that_the_tests_run_on() -> None:
    assert pins("image.txt") <= pins("job.txt")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_each_base_is_an_argument_and_pinned_where_it_has_a_default(file: Path) -> None:
    text = file.read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert base in stages or re.fullmatch(r"\$\{[A-Z]+\}", base), base
    for default in re.findall(r"^ARG [A-Z]+=(\S+)", text, re.MULTILINE):
        assert re.search(r":[a-z-]*[0-9][0-9a-z.-]+$", default), default


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_no_image_runs_as_root(file: Path) -> None:
    users = re.findall(r"^USER (\S+)", file.read_text(), re.MULTILINE)
    assert users
    assert users[-1] in ("9999:9999", "${OWNER}")


def newest_point(folder: Path, *arguments: str | Path) -> list[str]:
    properties = (
        f"execution.checkpointing.dir: file://{folder}/checkpoints\n"
        f"execution.checkpointing.savepoint-dir: file://{folder}/savepoints\n"
    )
    done = subprocess.run(
        [sys.executable, IMAGES / "job/newest_point.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "FLINK_PROPERTIES": properties, "JOB_ID": JOB_ID},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


def written(folder: Path, at_s: int, *, complete: bool = True) -> None:
    folder.mkdir(parents=True)
    (folder / ("_metadata" if complete else "part")).write_text("")
    os.utime(next(folder.iterdir()), (at_s, at_s))


def test_job_begins_anew_where_it_has_left_nothing(tmp_path: Path) -> None:
    assert newest_point(tmp_path) == []


def test_job_goes_on_from_the_newest_complete_point(tmp_path: Path) -> None:
    checkpoints, savepoints = tmp_path / "checkpoints" / JOB_ID, tmp_path / "savepoints"
    written(checkpoints / "chk-9", 100)
    written(checkpoints / "chk-10", 200)
    written(checkpoints / "chk-11", 300, complete=False)
    written(savepoints / "savepoint-ffffff-of-another-job", 400)
    claimed = ["-D", "execution.state-recovery.claim-mode=CLAIM"]
    assert newest_point(tmp_path) == ["--fromSavepoint", f"file://{checkpoints}/chk-10", *claimed]
    written(savepoints / f"savepoint-{JOB_ID[:6]}-1", 500)
    kept = ["-D", "execution.state-recovery.claim-mode=NO_CLAIM"]
    assert newest_point(tmp_path) == ["--fromSavepoint", f"file://{savepoints}/savepoint-{JOB_ID[:6]}-1", *kept]


@pytest.mark.parametrize(
    "engine", ["{checkpoint_dir: 'file://OTHER'}", "{flink: {execution.checkpointing.dir: 'file://OTHER'}}"]
)
def test_job_goes_on_from_the_folder_of_its_own_settings(tmp_path: Path, engine: str) -> None:
    """Catch a job that begins anew, or from an old point, because `engine` overrides the folder of the cluster."""
    other, config = tmp_path / "other", tmp_path / "job.yaml"
    lake = "{uri: jdbc:postgresql://db/lake, warehouse: s3://warehouse/insights}"
    config.write_text(f"name: insights\nlake: {lake}\nengine: {engine.replace('OTHER', str(other))}\n")
    written(tmp_path / "checkpoints" / JOB_ID / "chk-9", 100)
    written(other / JOB_ID / "chk-20", 200)
    arguments = ("--job-classname", "org.apache.flink.client.python.PythonDriver", "-pym", "jobs.insights")
    assert newest_point(tmp_path, *arguments, "--config", config)[1] == f"file://{other}/{JOB_ID}/chk-20"
    written(tmp_path / "checkpoints" / JOB_ID / "chk-30", 300)
    assert newest_point(tmp_path, *arguments, "--config", config)[1].endswith("checkpoints/" + JOB_ID + "/chk-30")
    entrypoint = (IMAGES / "job/docker-entrypoint.sh").read_text()
    assert 'newest_point.py "$@"' in entrypoint, "it passes on the arguments of the job"
