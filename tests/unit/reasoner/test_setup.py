"""`reasoner setup` of an installed package: the script with jars of its own, and the folders without a checkout."""

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from reasoner import folders
from reasoner.errors import CommandFailed, WrongUse
from reasoner.extras import require
from reasoner.runs.journal import journal_path
from reasoner.stack.environment import flink_home, prepare
from reasoner.stack.settings import StackSettings
from tests.support.readme import blocks_of
from tests.tidy.rules import ROOT

JARS = {"kafka": ("kafka_2.13-4.1.0.jar", "log4j-core-2.25.1.jar"), "flink": ("flink-sql-connector-kafka.jar",)}
# Delivers the jars of the repository of the test; each call is a line of the file `calls`.
MAVEN = """#!/bin/sh
for word; do
  case $word in
    -DoutputDirectory=*) folder=${word#*=} ;;
    */pom.xml) name=$(basename "$(dirname "$word")") ;;
  esac
done
echo "$name" >>"$REPOSITORY/calls"
mkdir -p "$folder" && cp "$REPOSITORY/$name"/*.jar "$folder"
"""
JAVA = """#!/bin/sh
echo 'openjdk version "17.0.1" 2021-10-19' >&2
"""


@dataclass(frozen=True)
class Installed:
    """The script in a folder that is no checkout, on a machine with the programs of `bin` and those of `usr`."""

    folder: Path

    def run(self, *parts: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self.folder / "bin"),
            "HOME": str(self.folder),
            "REPOSITORY": str(self.folder / "repository"),
            "REASONER_TOOLS": str(self.tools),
            "REASONER_PYTHON": sys.executable,
        }
        script = self.folder / "site-packages" / "reasoner" / "stack" / "setup.sh"
        return subprocess.run(
            ["/bin/bash", str(script), *parts],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,  # 3 s on an idle machine; it copies FLINK_HOME
        )

    @property
    def tools(self) -> Path:
        return self.folder / "cache"

    def calls_of_maven(self) -> list[str]:
        return (self.folder / "repository" / "calls").read_text().split()


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Installed:
    """Install the script on a machine that has neither a JDK nor Maven."""
    stack = tmp_path / "site-packages" / "reasoner" / "stack"
    for name in ("maven", "parts", "go"):
        shutil.copytree(ROOT / "reasoner" / "stack" / name, stack / name)
    script = (ROOT / "reasoner" / "stack" / "setup.sh").read_text()
    for usual in ("/usr/lib/jvm/", "/usr/local/go/", "/usr/lib/go/"):
        assert script.count(f" {usual}") == 1
        script = script.replace(f" {usual}", f" {tmp_path}{usual}")
    (stack / "setup.sh").write_text(script)
    for name, jars in JARS.items():
        (tmp_path / "repository" / name).mkdir(parents=True)
        for jar in jars:
            (tmp_path / "repository" / name / jar).write_text(jar)
        hashes = (f"{hashlib.sha256(jar.encode()).hexdigest()}  {jar}\n" for jar in jars)
        (stack / "maven" / f"{name}.sha256").write_text("".join(hashes))
    (tmp_path / "bin").mkdir()
    for path in map(Path, ("/usr/bin", "/bin")):
        for tool in path.iterdir():
            if tool.name not in ("java", "mvn", "go") and not (tmp_path / "bin" / tool.name).exists():
                (tmp_path / "bin" / tool.name).symlink_to(tool)
    return Installed(tmp_path)


@pytest.fixture
def equipped(machine: Installed) -> Installed:
    """Add a JDK and Maven."""
    program(machine.folder / "usr/lib/jvm/jdk-17/bin/java", JAVA)
    program(machine.folder / "bin" / "mvn", MAVEN)
    return machine


def test_a_missing_jdk_and_maven_are_one_sentence_with_the_way_to_install_them(machine: Installed) -> None:
    done = machine.run()
    assert done.returncode == 1
    (sentence,) = (line for line in done.stderr.splitlines() if "missing" in line)
    assert "apt-get install openjdk-17-jre-headless maven` (any JDK 17 or 21" in sentence
    assert sentence.endswith("then run `reasoner setup` again.")
    assert not (machine.tools / "jars" / "kafka").exists()


def test_the_download_is_listed_first_and_a_second_run_does_nothing(equipped: Installed) -> None:
    done = equipped.run()
    assert done.returncode == 0, done.stderr
    first, second, *_ = (line for line in done.stdout.splitlines() if "jars" in line)
    assert "Maven will download 3 jars (165 MB) of Kafka and Flink's connectors" in first
    assert f"into {equipped.tools}," in first
    assert "downloading 2 jars for kafka" in second
    assert equipped.calls_of_maven() == ["kafka", "flink"]
    assert (equipped.tools / "flink" / "lib" / JARS["flink"][0]).read_text() == JARS["flink"][0]
    assert (equipped.tools / "flink" / "bin" / "flink").exists()

    (equipped.folder / "bin" / "mvn").unlink()
    again = equipped.run()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_flink_home_is_made_again_where_the_jars_of_the_packages_have_moved(equipped: Installed) -> None:
    assert equipped.run().returncode == 0
    link = next(path for path in (equipped.tools / "flink" / "lib").iterdir() if path.name.startswith("flink-dist"))
    there = link.readlink()
    link.unlink()
    link.symlink_to("/nowhere.jar")
    assert equipped.run().stdout == "setup: creating FLINK_HOME\n"
    assert link.readlink() == there
    assert equipped.calls_of_maven() == ["kafka", "flink"], "the jars stay"


@pytest.mark.parametrize(("version", "found"), [(None, "none"), ("1.19.8", "1.19.8"), ("1.24.9", "1.24.9")])
def test_go_that_is_missing_or_too_old_is_said_before_anything_is_downloaded(
    equipped: Installed, version: str | None, found: str
) -> None:
    if version:
        program(equipped.folder / "bin" / "go", f"#!/bin/sh\necho go{version}\n")
    done = equipped.run("s3")
    assert done.returncode == 1
    assert (
        f"Go 1.25.0 or newer is needed for versitygw, found {found}. Install it from https://go.dev/dl/" in done.stderr
    )
    assert not (equipped.folder / "repository" / "calls").exists()


def test_a_newer_go_beside_one_that_is_too_old_is_used(equipped: Installed) -> None:
    program(equipped.folder / "bin" / "go", "#!/bin/sh\necho go1.19.8\n")
    program(
        equipped.folder / "usr/local/go/bin/go",
        "#!/bin/sh\n[ $1 = env ] && echo go1.25.0 || { echo built >&2; exit 3; }\n",
    )
    assert "versitygw could not be built: built " in equipped.run("s3").stderr


def test_a_jar_with_another_hash_is_refused(equipped: Installed) -> None:
    (equipped.folder / "repository" / "kafka" / JARS["kafka"][1]).write_text("another file")
    done = equipped.run()
    assert done.returncode == 1
    assert f"jar {JARS['kafka'][1]} has SHA-256" in done.stderr
    assert "run `reasoner setup` again" in done.stderr
    assert not (equipped.tools / "jars" / "kafka").exists()


@pytest.mark.parametrize("part", ["collector", "boards", "operator", "python", "zookeeper"])
def test_a_part_for_a_checkout_is_refused_with_those_of_the_package(machine: Installed, part: str) -> None:
    done = machine.run("redis", part)
    assert done.returncode == 2
    known = "kafka, flink, s3, redis, haproxy, prometheus, alertmanager; other parts are for a checkout"
    assert done.stderr == f"setup: found the part {part}, expected {known}\n"
    assert not machine.tools.exists(), "nothing is made before the refusal"


def test_a_part_of_the_package_reads_no_file_of_the_checkout() -> None:
    stack = ROOT / "reasoner" / "stack"
    (anywhere,) = re.findall(r"^readonly ANYWHERE=\((.*)\)$", (stack / "setup.sh").read_text(), re.MULTILINE)
    assert [name for name in anywhere.split() if "$ROOT" in (stack / "parts" / f"{name}.sh").read_text()] == []


def test_an_unknown_part_is_wrong_use(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WrongUse):
        prepare(["zookeeper"])
    assert "found the part zookeeper, expected kafka, flink, python, alertmanager" in capfd.readouterr().err


@pytest.fixture
def no_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_HOME", tmp_path / "site-packages")
    for name in ("REASONER_TOOLS", "REASONER_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    for kind in ("CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))


@pytest.mark.usefixtures("no_checkout")
def test_each_environment_has_its_own_folder_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folders.tools()
    assert first.parent == tmp_path / "cache" / "metric-reasoner"
    assert first == folders.tools()
    monkeypatch.setattr(folders, "_HOME", tmp_path / "other" / "site-packages")
    assert folders.tools().parent == first.parent
    assert folders.tools() != first
    monkeypatch.setenv("REASONER_TOOLS", str(tmp_path / "image"))
    assert folders.tools() == tmp_path / "image"


@pytest.mark.usefixtures("no_checkout")
def test_the_stack_and_the_journals_lie_in_the_state_folder(tmp_path: Path) -> None:
    state = tmp_path / "state" / "metric-reasoner"
    assert StackSettings.load({}, {}).folder == state / "run"
    assert journal_path("insights") == state / "insights.jsonl"


@pytest.mark.usefixtures("no_checkout")
def test_without_a_checkout_the_next_step_is_a_command_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandFailed, match=r"flink is missing or incomplete: run `reasoner setup`$"):
        flink_home()
    for module in ("typer", "pyflink", "drain3"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WrongUse, match=r"run `pip install 'metric-reasoner\[local\]'`$"):
        require("local", "reasoner replay")
    with pytest.raises(WrongUse, match=r"run `uv pip install --override overrides.txt 'metric-reasoner\[job\]'` with"):
        require("job", "reasoner submit")


@pytest.mark.usefixtures("no_checkout")
@pytest.mark.parametrize("extra", ["job", "evaluation"])
def test_the_overrides_that_are_named_are_those_of_the_lock(
    monkeypatch: pytest.MonkeyPatch, extra: Literal["job", "evaluation"]
) -> None:
    locked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["override-dependencies"]
    for module in ("pyflink", "drain3"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WrongUse) as missing:
        require(extra, "reasoner demo")
    named = str(missing.value).partition("`overrides.txt` with ")[2].split(", ")
    assert set(named) <= set(locked)
    if extra == "job":
        (override,) = named
        assert f"echo '{override}' > overrides.txt" in blocks_of("Install as a library")[1]


def test_this_process_runs_from_a_checkout() -> None:
    assert folders.checkout() == ROOT
    assert folders.run_folder() == ROOT / ".run"
