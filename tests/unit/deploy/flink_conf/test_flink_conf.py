"""Flink itself loads the files of flink-conf: each key is an option of its classes, and each value can be read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reasoner.folders import flink_conf
from reasoner.stack.environment import flink_env
from reasoner.stack.flink_conf import USES, settings, write
from tests.support.components import skip_unless_set_up

WRONG = {
    "taskmanager.memory.netwok.min": "64m",
    "state.backend": "rocksdb",
    "heartbeat.interval": "often",
    "metrics.reporter.otel.exporter.endpont": "http://127.0.0.1:4317",
    "taskmanager.memory.framework.heap.size": "9g",
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what Flink says of the folder of each use, and of one with wrong settings."""
    skip_unless_set_up()
    folder = tmp_path_factory.mktemp("conf")
    for use in USES:
        write(folder / use, [use], {})
    write(folder / "wrong", ["session"], WRONG)
    names = (*USES, "wrong")
    command = [sys.executable, "-m", "tests.support.flink_options", *(str(folder / name) for name in names)]
    done = subprocess.run(command, env=flink_env(), capture_output=True, text=True, check=False, timeout=120)
    assert not done.returncode, done.stderr
    return dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("use", USES)
def test_flink_knows_each_key_and_reads_each_value(judged: dict[str, Any], use: str) -> None:
    assert judged[use]["faults"] == []
    assert len(judged[use]["memory"]) == 2


def test_flink_finds_what_is_wrong(judged: dict[str, Any]) -> None:
    """Catch a check that passes whatever the files say."""
    found = "\n".join(judged["wrong"]["faults"])
    for text in (
        "taskmanager.memory.netwok.min is unknown",
        "state.backend is",
        "'heartbeat.interval'",
        "exporter.endpont is no option",
        "Sum of configured",
    ):
        assert text in found
    assert judged["wrong"]["memory"] == []


@pytest.mark.parametrize("use", ["session", "application"])
def test_only_what_is_not_flinks_default_stands_in_the_files(judged: dict[str, Any], use: Any) -> None:
    assert set(judged[use]["usual"]) & set(settings(use)) == set()


def test_a_container_has_room_for_the_python_workers(judged: dict[str, Any]) -> None:
    """1.5 GB of managed memory, of which the workers of two slots have 70 %: 0.5 GB each."""
    assert "managedMemorySize=1.507gb" in judged["application"]["memory"][1]


@pytest.mark.parametrize("file", sorted(flink_conf().iterdir()), ids=lambda file: file.name)
def test_each_setting_has_its_reason(file: Path) -> None:
    """Lines that belong together have a comment above the first of them."""
    for group in file.read_text().strip().split("\n\n"):
        assert group.startswith("#"), f"no comment stands above {group.splitlines()[0]}"


def test_the_environment_of_workers_is_in_no_log(tmp_path: Path) -> None:
    """Each configuration of log4j that Flink's scripts name silences the class that logs it."""
    skip_unless_set_up()
    write(tmp_path, ["session"], {})
    files = sorted(tmp_path.glob("log4j*.properties"))
    assert len(files) >= 4
    for file in files:
        assert "logger.beambundle.level = ERROR" in file.read_text(), file.name
