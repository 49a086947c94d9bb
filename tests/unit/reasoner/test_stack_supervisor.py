"""The supervisor with a component of a few lines of Python: starts, refusals, status and stops."""

import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from reasoner.errors import CommandFailed
from reasoner.stack.component import Component
from reasoner.stack.environment import program
from reasoner.stack.process import ProcessRecord
from reasoner.stack.running import COMPONENTS, OPTIONAL, components_of
from reasoner.stack.settings import LOOPBACK, StackSettings, free_ports
from reasoner.stack.supervisor import Supervisor

# The program listens on the port of its argument; it is ready when it accepts a connection.
SERVER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
BROKEN = "print('the disk is full'); raise SystemExit(3)"
NEVER_READY = "import time; print('still thinking', flush=True); time.sleep(600)"


def part_of(folder: Path, name: str = "part", *, program: str = SERVER, ready_deadline_s: float = 10.0) -> Component:
    """Return a component whose program listens on a free port."""
    (port,) = free_ports(1)

    def not_ready_because() -> str | None:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
        except OSError as error:
            return str(error)
        return None

    return Component(
        name=name,
        folder=folder / name,
        prepare=lambda: (folder / name).mkdir(parents=True, exist_ok=True),
        command=lambda: [sys.executable, "-c", program, str(port)],
        not_ready_because=not_ready_because,
        ready_deadline_s=ready_deadline_s,
        environment=dict,
        ports={"kafka_port": port},
        endpoints={"part": f"{LOOPBACK}:{port}"},
    )


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, lines: list[str]) -> Supervisor:
    return Supervisor(tmp_path, die_with_parent=True, report=lines.append)


@pytest.fixture
def part(tmp_path: Path) -> Component:
    return part_of(tmp_path)


def test_up_twice_starts_once_and_down_twice_ends_once(
    supervisor: Supervisor, part: Component, lines: list[str]
) -> None:
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
    assert not part.record.exists()


def in_parts(name: str) -> list[str]:
    return [str(program(name, name))]


def test_all_missing_programs_are_one_message_and_nothing_is_prepared(
    supervisor: Supervisor, part: Component, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("reasoner.stack.environment.tools", lambda: tmp_path / "tools")
    lacking = [replace(part, name=name, command=partial(in_parts, name)) for name in ("s3", "redis")]
    with pytest.raises(
        CommandFailed, match=r"run `reasoner setup s3`\n.*run `reasoner setup redis`\n.*`reasoner setup s3 redis`$"
    ):
        supervisor.up([part, *lacking])
    assert not part.folder.exists()


def test_each_component_knows_its_command_before_it_is_prepared(tmp_path: Path) -> None:
    """Catch a command that reads what `prepare` writes: `up` asks for it first, and nothing could be started."""
    settings = StackSettings(folder=tmp_path).with_auto_ports().resolved()
    for component in components_of(settings, [*COMPONENTS, *OPTIONAL]):
        with suppress(CommandFailed):  # its program is not on this machine
            assert component.command()
    assert list(tmp_path.iterdir()) == []


def test_another_command_sees_and_ends_what_the_first_started(supervisor: Supervisor, part: Component) -> None:
    """Catch a supervisor that has its processes in memory only: `up` and `down` are two commands."""
    supervisor.up([part])
    record = supervisor.record("part")
    other = Supervisor(supervisor.folder)
    assert other.status([part])[0].state == "up"
    assert other.running_ports() == {"kafka_port": part.ports["kafka_port"]}
    other.down(["part"])
    supervisor.down()
    assert record is not None
    assert not record.is_running()


def test_a_busy_port_is_refused_with_its_number_and_the_flag_that_changes_it(
    supervisor: Supervisor, part: Component
) -> None:
    with socket.create_server((LOOPBACK, part.ports["kafka_port"])):
        with pytest.raises(
            CommandFailed, match=rf"part: .* port {part.ports['kafka_port']} \(change it with --kafka-port or "
        ):
            supervisor.up([part])
        assert supervisor.record_paths() == []


def test_a_part_that_ends_at_once_shows_its_last_lines_and_takes_the_others_with_it(
    supervisor: Supervisor, part: Component, tmp_path: Path
) -> None:
    broken = part_of(tmp_path, "broken", program=BROKEN)
    with pytest.raises(CommandFailed, match=r"broken: its process ended while it was starting[\s\S]*the disk is full"):
        supervisor.up([part, broken])
    assert supervisor.record_paths() == []


def test_a_part_that_never_becomes_ready_is_given_up_at_its_deadline(supervisor: Supervisor, tmp_path: Path) -> None:
    slow = part_of(tmp_path, "slow", program=NEVER_READY, ready_deadline_s=0.5)
    with pytest.raises(CommandFailed, match=r"slow: not ready after 0 s: [\s\S]*still thinking"):
        supervisor.up([slow])
    assert supervisor.record_paths() == []


def test_a_failing_up_leaves_what_ran_before(supervisor: Supervisor, part: Component, tmp_path: Path) -> None:
    """Catch a roll-back that ends the whole stack instead of the processes that this call started."""
    supervisor.up([part])
    with pytest.raises(CommandFailed):
        supervisor.up([part, part_of(tmp_path, "broken", program=BROKEN)])
    assert supervisor.record("part") is not None
    supervisor.down()


def test_a_stale_record_is_reported_dead_and_the_next_up_starts_anew(supervisor: Supervisor, part: Component) -> None:
    """The process id of the record now belongs to another process, which must not be ended."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        part.prepare()
        record = ProcessRecord("part", stranger.pid, 1, "some boot", str(part.folder))
        record.save(part.record)
        assert supervisor.status([part])[0].state == "dead"
        supervisor.up([part])
        assert supervisor.status([part])[0].state == "up"
        supervisor.down()
        assert stranger.poll() is None
        stranger.kill()


def test_two_commands_at_once_are_refused(supervisor: Supervisor, part: Component) -> None:
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


def test_a_part_that_runs_without_what_is_asked_for_is_said(supervisor: Supervisor, part: Component) -> None:
    """Catch an `up` that reports a part as up although its configuration does not name the new neighbour."""
    supervisor.up([replace(part, uses=("s3",))])
    supervisor.up([replace(part, uses=("s3",))])
    supervisor.up([part])
    with pytest.raises(
        CommandFailed, match=r"part runs since before prometheus was asked for.* `reasoner stack down part`"
    ):
        supervisor.up([replace(part, uses=("s3", "prometheus"))])
    assert supervisor.record("part") is not None
    supervisor.down()


def test_a_port_that_is_counted_from_a_setting_is_refused_too(supervisor: Supervisor, part: Component) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        busy = replace(part, counted_ports={"flink_metrics_port": other.getsockname()[1]})
        with pytest.raises(CommandFailed, match=rf"another program uses port {other.getsockname()[1]} "):
            supervisor.up([busy])


def test_down_of_one_name_leaves_the_other(supervisor: Supervisor, part: Component, tmp_path: Path) -> None:
    other = part_of(tmp_path, "other")
    supervisor.up([part, other])
    supervisor.down(["part"])
    assert [status.state for status in supervisor.status([part, other])] == ["down", "up"]
    supervisor.down()
