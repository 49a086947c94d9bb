"""Start a process, store its identity in a record, and stop exactly that process.

A process id alone is no identity, because the kernel uses it again. The record therefore has the id, the start time
since boot and the boot id. All three are compared first, and psutil compares id and start time again at each signal.
"""

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from reasoner.stack.component import Component

# Every process of the stack inherits this variable; it identifies workers whose parent has died.
OWNER_VARIABLE = "REASONER_STACK_OWNER"
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that this project started.

    - started_s (since boot) and boot_id: distinguish it from a later process with the same id.
    - stop_signal: signal that ends it in an orderly way.
    - ports: setting name -> number with which it was started.
    - uses: components that its configuration names.
    """

    name: str
    pid: int
    started_s: float
    boot_id: str
    owner: str
    stop_signal: int = signal.SIGTERM
    ports: Mapping[str, int] = dataclasses.field(default_factory=dict)
    uses: Sequence[str] = ()

    def save(self, path: Path) -> None:
        """Write the record so that a reader sees either the old or the new one, never an incomplete one."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        part.replace(path)

    @staticmethod
    def load(path: Path) -> "ProcessRecord | None":
        """Return the record in `path`; None if there is none or it cannot be read as a record."""
        try:
            return ProcessRecord(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def is_running(self) -> bool:
        """Return whether exactly the process of this record runs (a zombie does not)."""
        return self.process() is not None

    def process(self) -> Any:
        """Return the psutil.Process of this record while exactly that process runs; else None."""
        process = living(self.pid) if self.boot_id == _boot_id() else None
        return process if process and _started_s(process) == self.started_s else None


# Arguments: the process that must still be the parent, the command.
UNLESS_ORPHANED: Final = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'


def living(pid: int) -> Any:
    """Return the psutil.Process of this id; None when it does not exist or is a zombie."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def start(component: Component, *, die_with_parent: bool = False) -> tuple[subprocess.Popen[bytes], ProcessRecord]:
    """Start the process of a prepared component in a session of its own and append its output to the log.

    die_with_parent: the kernel sends SIGTERM when the thread that started the process ends in any way. The caller keeps
    the Popen for its own lifetime and calls `poll` to reap the child.
    """
    command, owner = component.command(), str(component.folder)
    # One setpriv for both: the kernel clears the death signal when the user changes after it was set.
    options = [*component.setpriv(), *(["--pdeathsig=TERM"] if die_with_parent else [])]
    # The parent may end before the death signal is set, and then no signal is ever sent.
    guard = ["sh", "-c", UNLESS_ORPHANED, str(os.getpid())] if die_with_parent else []
    with component.log.open("ab") as output:
        child = subprocess.Popen(
            ["setpriv", *options, "--", *guard, *command] if options else command,
            env={**component.environment(), OWNER_VARIABLE: owner},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = living(child.pid)
    # -1 for a child that has already ended: no process has that start time, so no process ever matches the record.
    started_s = _started_s(process) if process else -1.0
    about = (component.stop_signal, dict(component.ports), list(component.uses))
    return child, ProcessRecord(component.name, child.pid, started_s, _boot_id(), owner, *about)


def stop(record: ProcessRecord, *, deadline_s: float) -> bool:
    """Signal the process to end, wait, then kill its process group and the processes that it left behind.

    Returns False if the process of the record was not running.
    """
    process = record.process()
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        if process:
            process.send_signal(record.stop_signal)
            if not _ended([process], deadline_s):
                # The leader still has the id, so the group of that id is the one that `start` created.
                os.killpg(record.pid, signal.SIGKILL)
                _ended([process], deadline_s)
    _kill_strays(record)
    return process is not None


def _ended(processes: Sequence[Any], deadline_s: float) -> list[Any]:
    """Wait until all of these processes have ended, at most so long; return those that have.

    A process that has ended and was not reaped counts: process 1 of a container may be a program that reaps none.
    """
    until_s = time.monotonic() + deadline_s
    while len(ended := [process for process in processes if not _lives(process)]) < len(processes):
        if time.monotonic() > until_s:
            break
        time.sleep(_POLL_S)
    return ended


def _lives(process: Any) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _kill_strays(record: ProcessRecord) -> None:
    """Kill members of the record's session that outlived their leader and have OWNER_VARIABLE in their environment."""
    # A session with a living leader was not left behind by the process of the record.
    if record.boot_id != _boot_id() or living(record.pid):
        return
    for _ in range(5):  # a stray may start another process meanwhile
        strays = [process for process in psutil.process_iter() if _is_stray(process, record)]
        for process in strays:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if not _ended(strays, 1.0):
            return


def _is_stray(process: Any, record: ProcessRecord) -> bool:
    with suppress(psutil.Error, OSError):
        return os.getsid(process.pid) == record.pid and process.environ().get(OWNER_VARIABLE) == record.owner
    return False


def _started_s(process: Any) -> float:
    # Not the time of day, which changes when the clock is set.
    since_boot: float = process.create_time() - psutil.boot_time()
    return round(since_boot, 2)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
