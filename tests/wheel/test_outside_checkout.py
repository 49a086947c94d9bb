"""Wheel and sdist in an empty folder and an empty environment, by the commands of README, with a job on its stack."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from reasoner.recordings.message import Message
from reasoner.recordings.player import play
from reasoner.recordings.reshape import dump, placed
from reasoner.runs import demo
from reasoner.runs.local_run import TOPICS
from reasoner.traffic import shop
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import from_json
from state_schemas.telemetry.signals import SIGNALS
from tests.support.readme import blocks_of, own_telemetry
from tests.tidy.rules import ROOT

pytestmark = pytest.mark.wheel

COMMAND_S_MAX: Final = 1_200.0  # downloads are 900 MB where no cache has them
PARTITIONS: Final = 4  # of `reasoner topics create`
# Settings of this process that a user's shell does not have; those of pip, uv, Maven and certificates stay.
DROPPED: Final = ("PYTHON", "VIRTUAL_ENV", "REASONER_", "FLINK", "HADOOP", "JAVA_TOOL_OPTIONS", "XDG_")
PORTS: Final = ("KAFKA", "KAFKA_CONTROLLER", "POSTGRES", "FLINK_REST", "FLINK_RPC")


@dataclass(frozen=True)
class Shell:
    """A shell in an empty folder outside of the checkout, with the programs of `venv` first."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
        path = f"{self.folder}/venv/bin:{sys.base_prefix}/bin:{kept['PATH']}"
        xdg = {f"XDG_{kind}_HOME": str(self.folder / kind.lower()) for kind in ("CACHE", "STATE")}
        return {**kept, **xdg, "PATH": path, **{f"REASONER_{name}_PORT": "auto" for name in PORTS}}

    def run(self, commands: str, cwd: Path | None = None) -> str:
        """Run commands as README has them; return their output. Fails with it where one of them fails."""
        line = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(
            line,
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S_MAX,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, command: str) -> Any:
        """Return the JSON object that a command prints."""
        return json.loads(self.run(command))


@dataclass(frozen=True)
class Telemetry:
    """Twelve minutes of a shop that end now, in which a service is slow."""

    plan: demo.DemoPlan
    messages: tuple[Message, ...]

    def faults(self, output: str) -> list[str]:
        """Return what is wrong with insights that were printed as JSON lines, among other lines."""
        insights = [from_json(line.encode()) for line in output.splitlines() if line.startswith("{")]
        return demo.faults(self.plan, insights, insights)


@pytest.fixture(scope="module")
def telemetry() -> Telemetry:
    plan = demo.plan(12, True, int(time.time() * 1_000))
    messages = shop.messages(plan.seed, plan.start_ms, demo.DURATION_MS, plan.incident)
    return Telemetry(plan, tuple(placed(messages, PARTITIONS)))


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build as `make build` does: the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = ["build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder)]
    subprocess.run([ROOT / ".tools" / "uv" / "bin" / "uv", *build, ROOT], check=True, timeout=COMMAND_S_MAX)
    return folder


@pytest.fixture(scope="module")
def recorded(dist: Path, telemetry: Telemetry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, str]]:
    """Run README's commands for recordings; yield the shell and their output. Stops the stack that a test starts."""
    folder = tmp_path_factory.mktemp("empty")
    shutil.copy(next(dist.glob("*.whl")), folder)
    (folder / "recording").mkdir()
    dump(telemetry.messages, folder / "recording")
    shell = Shell(folder)
    yield shell, shell.run(blocks_of("Install as a library")[0])
    shell.run("! test -d state || reasoner stack down --force")


@pytest.fixture(scope="module")
def job(recorded: tuple[Shell, str]) -> tuple[Shell, str]:
    """Run README's commands for a job in the same environment, up to the running stack; return their output."""
    shell, _ = recorded
    return shell, shell.run(blocks_of("Install as a library")[1])


def test_the_wheel_has_each_file_of_the_packages_and_nothing_else(dist: Path) -> None:
    rooms = ("state_schemas", "udfs", "operators", "jobs", "reasoner")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *rooms],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = zipfile.ZipFile(next(dist.glob("*.whl"))).namelist()
    assert {name for name in names if ".dist-info/" not in name} == {
        name for name in listed.stdout.splitlines() if (ROOT / name).exists()
    }


def test_the_sdist_has_what_a_build_and_the_tests_need(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        tops = {name.split("/")[1] for name in archive.getnames()}
    assert {"pyproject.toml", "locks", "tests", "examples", "docs", "Makefile", "LICENSE", "jobs"} <= tops


def test_a_recording_is_replayed_and_explained_without_a_checkout(
    recorded: tuple[Shell, str], telemetry: Telemetry, tmp_path: Path
) -> None:
    shell, replayed = recorded
    assert telemetry.faults(replayed) == []
    (file,) = (shell.folder / "recording").iterdir()
    lines = shell.run(f"reasoner explain {file} --json", cwd=tmp_path).splitlines()
    assert {json.loads(line)["service"] for line in lines} >= {"checkout"}
    assert list(tmp_path.iterdir()) == [], "nothing is written into the working directory"


def test_the_setup_says_what_it_downloads_and_a_second_run_does_nothing(job: tuple[Shell, str]) -> None:
    shell, started = job
    said = started.index("54 jars (165 MB)")
    assert said < started.index("downloading"), "before the first byte"
    (tools,) = (shell.folder / "cache" / "metric-reasoner").iterdir()
    stamps = {path: path.stat().st_mtime_ns for path in (tools / "stamps").iterdir()}
    assert shell.run("reasoner setup").split() == [str(tools)]
    assert {path: path.stat().st_mtime_ns for path in (tools / "stamps").iterdir()} == stamps


def test_a_job_runs_from_topics_to_insights_on_the_stack(job: tuple[Shell, str], telemetry: Telemetry) -> None:
    shell, _ = job
    status = shell.json("reasoner stack status --json")
    assert status["folder"] == str(shell.folder / "state" / "metric-reasoner" / "run")
    where: dict[str, str] = {}
    for component in status["components"]:
        where |= component["endpoints"]
    database, cluster = (urlsplit(where[name].removeprefix("jdbc:")).netloc for name in ("postgres_jdbc", "flink_rest"))
    start, stop, rest = own_telemetry(where["kafka"], database, cluster).partition("reasoner stop")
    assert "RUNNING" in shell.run(start)

    play(telemetry.messages, where["kafka"], {signal: TOPICS[signal] for signal in SIGNALS})
    listed = "reasoner insights list --config job.yaml --json"
    wait_until(lambda: not telemetry.faults(shell.run(listed)), f"{listed} has the incident", 240.0, every_s=2.0)
    described = shell.json("reasoner tables describe --config job.yaml --json")
    rows = {table["name"]: table["rows"] for table in described["tables"]}
    assert rows["latency_rollups"] > 0, rows
    assert "savepoint-" in shell.run(stop + rest)
    assert "flink-jobmanager: ended" in shell.run("reasoner stack down", cwd=Path("/"))


def test_the_detector_of_a_user_installs_beside_the_wheel_and_passes_its_test(job: tuple[Shell, str]) -> None:
    shell, _ = job
    shutil.copytree(ROOT / "examples" / "own_detector", shell.folder / "own_detector")
    shutil.copytree(ROOT / "tests", shell.folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    lock = ROOT / "locks" / "job.txt"
    shell.run(f"uv pip install ./own_detector; uv pip install pytest hypothesis --constraint {lock}")
    shutil.rmtree(shell.folder / "own_detector")  # else the folder is imported, not what was installed
    places = shell.run("python -c 'import jobs, own_detector.job as own; print(jobs.__file__, own.__file__)'").split()
    assert all(Path(place).is_relative_to(shell.folder / "venv") for place in places), places
    assert "5 passed" in shell.run("python -m pytest -p no:cacheprovider tests/unit/examples/test_own_detector.py")
