"""Identity of a process: a record ends only the process for which it was made, even if the process id is reused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from reasoner.stack.component import Component
from reasoner.stack.process import ProcessRecord, living, start, stop
from reasoner.waiting import wait_until
from tests.support.crash import kill_leader

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]
PARENT_OF_SLEEPER = [
    sys.executable,
    "-c",
    "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid,"
    " flush=True); __import__('time').sleep(600)",
]

Starter = Callable[[list[str]], ProcessRecord]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Starter]:
    """Start commands as the supervisor does; end them after the test in any case."""
    children: list[subprocess.Popen[bytes]] = []

    def _begin(command: list[str]) -> ProcessRecord:
        child, record = start(Component(name="part", folder=tmp_path, command=lambda: command))
        children.append(child)
        return record

    yield _begin
    for child in children:
        child.kill()
        child.wait()


def wait_for(condition: Callable[[], object]) -> None:
    wait_until(condition, "the condition of this test", 10.0, 0.02)


def test_stop_ends_the_process_of_the_record(begin: Starter) -> None:
    record = begin(SLEEPER)
    assert stop(record, deadline_s=10)
    assert not record.is_running()


def test_a_recycled_process_id_is_never_ended(begin: Starter) -> None:
    """Catch a stop that uses the process id alone: here it belongs to a process with another start time."""
    stranger = begin(SLEEPER)
    stale = replace(stranger, started_s=stranger.started_s - 0.01)
    assert not stale.is_running()
    assert not stop(stale, deadline_s=1)
    assert not kill_leader(stale)
    assert stranger.is_running()


def test_a_record_of_an_earlier_boot_is_never_trusted(begin: Starter) -> None:
    """Catch an identity of process id and start time alone: both start again from zero at each boot."""
    stranger = begin(SLEEPER)
    assert not stop(replace(stranger, boot_id="another boot"), deadline_s=1)
    assert stranger.is_running()


def test_a_process_that_is_not_reaped_has_ended(tmp_path: Path) -> None:
    """Catch a wait for the process to disappear: process 1 of a container may reap none, and each stop took 40 s."""
    script = (
        "import pathlib, time\n"
        "from reasoner.stack.component import Component\n"
        "from reasoner.stack.process import start\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        f"child, record = start(Component(name='part', folder=folder, command=lambda: {SLEEPER!r}))\n"
        "record.save(folder / 'record'); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        record = wait_until(lambda: ProcessRecord.load(tmp_path / "record"), "the record is written", 30.0, 0.05)
        assert record
        began_s = time.monotonic()
        assert stop(record, deadline_s=20.0)
        assert time.monotonic() - began_s < 10.0
        assert psutil.Process(record.pid).status() == psutil.STATUS_ZOMBIE
    finally:
        parent.kill()
        parent.wait()


def test_a_process_that_ignores_sigterm_is_killed_after_the_deadline(begin: Starter, tmp_path: Path) -> None:
    record = begin(DEAF)
    wait_for(lambda: "deaf" in (tmp_path / "part.log").read_text())
    assert stop(record, deadline_s=0.3)
    assert not record.is_running()


def test_stop_ends_the_processes_that_a_dead_leader_left_behind(begin: Starter, tmp_path: Path) -> None:
    """Catch orphaned workers: another process killed the leader, and its child still runs."""
    record = begin(PARENT_OF_SLEEPER)
    log = tmp_path / "part.log"
    wait_for(lambda: log.read_text().endswith("\n"))
    orphan = int(log.read_text())
    assert kill_leader(record)
    assert living(orphan)
    stop(record, deadline_s=5)
    wait_for(lambda: not living(orphan))


def test_orphans_of_another_owner_are_left_alone(begin: Starter, tmp_path: Path) -> None:
    """Catch a clean-up by session id alone, which the kernel may have assigned to another process."""
    record = begin(PARENT_OF_SLEEPER)
    log = tmp_path / "part.log"
    wait_for(lambda: log.read_text().endswith("\n"))
    orphan = int(log.read_text())
    kill_leader(record)
    stop(replace(record, owner="another owner"), deadline_s=5)
    assert living(orphan)
    os.kill(orphan, signal.SIGKILL)


@pytest.mark.parametrize("early", [False, True], ids=["as it runs", "before the kernel knows that it must"])
def test_a_process_that_must_die_with_its_parent_does_so_when_the_parent_is_killed(tmp_path: Path, early: bool) -> None:
    if early:
        slow = tmp_path / "setpriv"
        until_orphaned = f'touch {tmp_path}/begun; while kill -0 "$PPID"; do :; done'
        slow.write_text(f'#!/bin/sh\n{until_orphaned}\nexec {shutil.which("setpriv")} "$@"\n')
        slow.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from reasoner.stack.component import Component\n"
        "from reasoner.stack.process import start\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "part = Component(name='part', folder=Path(sys.argv[1]), command=lambda: command)\n"
        "child, record = start(part, die_with_parent=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    wait_for(lambda: not early or (tmp_path / "begun").exists())
    parent.kill()
    parent.wait()
    wait_for(lambda: not living(child))


def test_a_record_survives_the_way_through_its_file(begin: Starter, tmp_path: Path) -> None:
    record = replace(begin(SLEEPER), ports={"kafka_port": 9092})
    record.save(tmp_path / "part.process.json")
    assert ProcessRecord.load(tmp_path / "part.process.json") == record


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_broken_record_is_no_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "part.process.json"
    path.write_text(text)
    assert ProcessRecord.load(path) is None
