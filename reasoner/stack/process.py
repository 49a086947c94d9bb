"""A command in, a process of our own out: who it is stands in a record, and nothing but it is ever ended.

A process id alone is no identity, as the kernel gives it out again. The record therefore holds the id, the start
time in clock ticks and the boot, and every signal goes through a pidfd that is opened before the three are compared.
"""

import dataclasses
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["OWNER_VARIABLE", "Launch", "ProcessRecord", "kill_leader", "start", "start_ticks", "stop"]

# Every process of the stack inherits this variable, so that a worker whose parent died is known as ours.
OWNER_VARIABLE = "REASONER_STACK_OWNER"

_START_TIME_FIELD = 19  # Of /proc/PID/stat, counted after the command name, which may hold spaces and brackets.
_SESSION_FIELD = 3


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that we started. `start_ticks` and `boot_id` tell it from a later one with the same id.

    stop_signal: what ends it gently. ports: setting name -> number it was started with. endpoints: what it offers
    and where, for example {"kafka": "127.0.0.1:9092"}.
    """

    name: str
    pid: int
    start_ticks: int
    boot_id: str
    owner: str
    stop_signal: int = signal.SIGTERM
    ports: Mapping[str, int] = dataclasses.field(default_factory=dict)
    endpoints: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it so that a reader sees the old record or the new one, never a half."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        part.replace(path)

    @staticmethod
    def load(path: Path) -> "ProcessRecord | None":
        """The record in `path`; None when there is none or when it cannot be read as one."""
        try:
            return ProcessRecord(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def is_running(self) -> bool:
        """True while the very process of this record lives (a zombie does not)."""
        return self.boot_id == _boot_id() and start_ticks(self.pid) == self.start_ticks


# Arguments: the process that must still be the parent, the command.
UNLESS_ORPHANED: Final = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'


def start_ticks(pid: int) -> int | None:
    """Start of the process in clock ticks since boot; None when it does not exist or is a zombie."""
    fields = _stat_fields(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[_START_TIME_FIELD])


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start. `setpriv` holds options of the command of that name: another user, for example.

    die_with_parent: the kernel ends it (SIGTERM) when the thread that launched it ends, however that happens.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    owner: str
    setpriv: Sequence[str] = ()
    die_with_parent: bool = False

    def command_line(self) -> list[str]:
        # One setpriv for both: the kernel forgets the death signal when the user changes after it was set.
        options = [*self.setpriv, *(["--pdeathsig=TERM"] if self.die_with_parent else [])]
        # Who launched it may be gone before the death signal is set, and then no signal ever comes.
        guard = ["sh", "-c", UNLESS_ORPHANED, str(os.getpid())] if self.die_with_parent else []
        return ["setpriv", *options, "--", *guard, *self.command] if options else list(self.command)


def start(launch: Launch) -> tuple[subprocess.Popen[bytes], ProcessRecord]:
    """Start it in a session of its own, its output appended to the log.

    The caller keeps the Popen as long as it lives itself, and calls `poll` to reap the child.
    """
    with launch.log.open("ab") as output:
        child = subprocess.Popen(
            launch.command_line(),
            env={**launch.environment, OWNER_VARIABLE: launch.owner},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # -1 for a child that has ended already: no process has that start time, so nothing will ever match the record.
    return child, ProcessRecord(launch.name, child.pid, start_ticks(child.pid) or -1, _boot_id(), launch.owner)


def stop(record: ProcessRecord, *, deadline_s: float) -> bool:
    """Ask the process to end, wait, then kill its process group, and end what it left behind.

    Returns False when the process of the record was not running any more.
    """
    pidfd = _open_verified(record)
    if pidfd is None:
        _kill_strays(record)
        return False
    try:
        signal.pidfd_send_signal(pidfd, record.stop_signal)
        if not _wait_for_exit(pidfd, deadline_s):
            # The leader still holds the id, so the group of that id is the one we made.
            os.killpg(record.pid, signal.SIGKILL)
            _wait_for_exit(pidfd, deadline_s)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
    _kill_strays(record)
    return True


def kill_leader(record: ProcessRecord, *, deadline_s: float = 10.0) -> bool:
    """SIGKILL for this one process, its children left alone: what a crash looks like. False when it was not running."""
    pidfd = _open_verified(record)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _wait_for_exit(pidfd, deadline_s)
    finally:
        os.close(pidfd)
    return True


def _open_verified(record: ProcessRecord) -> int | None:
    """A pidfd of exactly this process, or None. The comparison comes after the opening, so the id cannot move on."""
    try:
        pidfd = os.pidfd_open(record.pid)
    except (ProcessLookupError, OSError):
        return None
    if record.is_running():
        return pidfd
    os.close(pidfd)
    return None


def _wait_for_exit(pidfd: int, deadline_s: float) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(deadline_s * 1_000))


def _kill_strays(record: ProcessRecord) -> None:
    """End the members of the record's session that outlived their leader and carry our mark in their environment."""
    if record.boot_id != _boot_id():
        return
    deadline = time.monotonic() + 5.0
    while (strays := _strays(record)) and time.monotonic() < deadline:
        for pid in strays:
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                if pid in _strays(record):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    _wait_for_exit(pidfd, 1.0)
            except ProcessLookupError:
                continue
            finally:
                os.close(pidfd)


def _strays(record: ProcessRecord) -> list[int]:
    if start_ticks(record.pid) is not None:
        return []  # The session has a living leader, so it is not one that our process left behind.
    mark = f"{OWNER_VARIABLE}={record.owner}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        fields = _stat_fields(int(folder.name))
        if fields is None or fields[0] == "Z" or int(fields[_SESSION_FIELD]) != record.pid:
            continue
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _stat_fields(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
