"""The supervisor with a component of a few lines of Python: starts, refusals, status and stops."""

import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from reasoner.errors import CommandFailed
from reasoner.stack.component import component_record
from reasoner.stack.process import ProcessRecord
from reasoner.stack.settings import LOOPBACK, free_ports
from reasoner.stack.supervisor import Supervisor

# The program listens on the port of its argument; it is ready when it accepts a connection.
SERVER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
BROKEN = "print('the disk is full'); raise SystemExit(3)"
NEVER_READY = "import time; print('still thinking', flush=True); time.sleep(600)"


@dataclass(frozen=True, slots=True)
class Part:
    """A component for tests; implements Component."""

    name: str
    folder: Path
    program: str = SERVER
    port: int = field(default_factory=lambda: free_ports(1)[0])
    ready_deadline_s: float = 10.0
    setpriv: Sequence[str] = ()
    stop_signal: signal.Signals = signal.SIGTERM

    @property
    def ports(self) -> Mapping[str, int]:
        return {"kafka_port": self.port}

    @property
    def endpoints(self) -> Mapping[str, str]:
        return {"part": f"{LOOPBACK}:{self.port}"}

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.program, str(self.port)]

    def environment(self) -> dict[str, str]:
        return {}

    def not_ready_because(self) -> str | None:
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        except OSError as error:
            return str(error)
        return None


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, lines: list[str]) -> Supervisor:
    return Supervisor(tmp_path, die_with_parent=True, report=lines.append)


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return Part("part", tmp_path / "part")


def test_up_twice_starts_once_and_down_twice_ends_once(supervisor: Supervisor, part: Part, lines: list[str]) -> None:
    supervisor.up([part])
    first = supervisor.record("part")
    supervisor.up([part])
    assert supervisor.record("part") == first
    assert "already up" in lines[-1]
    supervisor.down()
    supervisor.down()
    assert [line for line in lines if "ended" in line] == ["part: ended"]
    assert first is not None
    assert not first.is_running()
    assert not component_record(part).exists()


def test_another_command_sees_and_ends_what_the_first_started(supervisor: Supervisor, part: Part) -> None:
    """Catch a supervisor that has its processes in memory only: `up` and `down` are two commands."""
    supervisor.up([part])
    record = supervisor.record("part")
    other = Supervisor(supervisor.folder)
    assert other.status([part])[0].state == "up"
    assert other.running_ports() == {"kafka_port": part.port}
    other.down(["part"])
    supervisor.down()
    assert record is not None
    assert not record.is_running()


def test_a_busy_port_is_refused_with_its_number_and_the_flag_that_changes_it(
    supervisor: Supervisor, part: Part
) -> None:
    with socket.create_server((LOOPBACK, part.port)):
        with pytest.raises(CommandFailed, match=rf"part: .* port {part.port} \(change it with --kafka-port\)"):
            supervisor.up([part])
        assert supervisor.record_paths() == []


def test_a_part_that_ends_at_once_shows_its_last_lines_and_takes_the_others_with_it(
    supervisor: Supervisor, part: Part, tmp_path: Path
) -> None:
    broken = Part("broken", tmp_path / "broken", program=BROKEN)
    with pytest.raises(CommandFailed, match=r"broken: its process ended while it was starting[\s\S]*the disk is full"):
        supervisor.up([part, broken])
    assert supervisor.record_paths() == []


def test_a_part_that_never_becomes_ready_is_given_up_at_its_deadline(supervisor: Supervisor, tmp_path: Path) -> None:
    slow = Part("slow", tmp_path / "slow", program=NEVER_READY, ready_deadline_s=0.5)
    with pytest.raises(CommandFailed, match=r"slow: not ready after 0 s: [\s\S]*still thinking"):
        supervisor.up([slow])
    assert supervisor.record_paths() == []


def test_a_failing_up_leaves_what_ran_before(supervisor: Supervisor, part: Part, tmp_path: Path) -> None:
    """Catch a roll-back that ends the whole stack instead of the processes that this call started."""
    supervisor.up([part])
    with pytest.raises(CommandFailed):
        supervisor.up([part, Part("broken", tmp_path / "broken", program=BROKEN)])
    assert supervisor.record("part") is not None
    supervisor.down()


def test_a_stale_record_is_reported_dead_and_the_next_up_starts_anew(supervisor: Supervisor, part: Part) -> None:
    """The process id of the record now belongs to another process, which must not be ended."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        part.prepare()
        record = ProcessRecord("part", stranger.pid, 1, "some boot", str(part.folder))
        record.save(component_record(part))
        assert supervisor.status([part])[0].state == "dead"
        supervisor.up([part])
        assert supervisor.status([part])[0].state == "up"
        supervisor.down()
        assert stranger.poll() is None
        stranger.kill()


def test_two_commands_at_once_are_refused(supervisor: Supervisor, part: Part) -> None:
    """The second command starts while the first holds the lock of the folder: here from the progress report."""
    output: list[str] = []

    def ask_again(_: str) -> None:
        with pytest.raises(CommandFailed, match="another `reasoner stack` command runs in"):
            Supervisor(supervisor.folder).down()
        output.append("refused")

    supervisor.report = ask_again
    supervisor.up([part])
    assert output == ["refused"]
    supervisor.report = output.append
    supervisor.down()


def test_down_of_one_name_leaves_the_other(supervisor: Supervisor, part: Part, tmp_path: Path) -> None:
    other = replace(part, name="other", folder=tmp_path / "other", port=free_ports(1)[0])
    supervisor.up([part, other])
    supervisor.down(["part"])
    assert [status.state for status in supervisor.status([part, other])] == ["down", "up"]
    supervisor.down()
