"""Supervision of components: start them, wait until they are ready, stop exactly the started processes."""

import fcntl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reasoner.errors import CommandFailed
from reasoner.stack.component import Component, last_lines
from reasoner.stack.environment import MissingPart
from reasoner.stack.process import ProcessRecord, start, stop
from reasoner.stack.settings import is_port_free, ways_to_set

# Seconds. A broker that writes its last segments, or a checkpoint that is being completed, may take this long.
_STOP_DEADLINE_S = 20.0
_LOG_BYTES_MAX = 16_000_000


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """Status of one component.

    state: `up` (answers), `starting` (runs and does not answer yet: see `reason`), `dead` (its process has ended
    although no command stopped it) or `down`.
    """

    name: str
    state: str
    pid: int | None
    endpoints: dict[str, str]
    log: str
    reason: str | None = None


@dataclass(slots=True)
class Supervisor:
    """A supervisor of the components of one folder. Another process may continue: its whole state is on disk.

    - die_with_parent: for tests and the demo; the started processes end when the calling thread ends in any way.
    - report: is called with one line per event, for people.
    """

    folder: Path
    die_with_parent: bool = False
    report: Callable[[str], None] = lambda _: None
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def up(self, components: Sequence[Component]) -> None:
        """Start the components that do not run, in order, and wait until all are ready. On failure stop them.

        Raises CommandFailed with the last lines of the log and the next step.
        """
        with self._lock():
            missing = [component for component in components if self.record(component.name) is None]
            _refuse_without_programs(missing)
            for component in missing:
                _refuse_busy_ports(component)
            for component in components:
                if record := self.record(component.name):
                    _refuse_another_use(component, record)
                    # A command may have started it and been killed before it was ready.
                    self._wait_until_ready(component, record, time.monotonic(), "already up")
            try:
                # All are started before the first wait: no component needs another one to be ready first.
                started = [(component, time.monotonic(), self._start(component)) for component in missing]
                for component, began_s, record in started:
                    self._wait_until_ready(component, record, began_s, "up")
            except BaseException:
                # Also on Ctrl-C: an incomplete stack must not keep running.
                for component in reversed(missing):
                    self._end(component.record)
                raise

    def down(self, names: Sequence[str] | None = None) -> None:
        """Stop the components of these names, or all of the folder, the last started first; none running is fine."""
        with self._lock():
            for path in reversed(self.record_paths()):
                if names is None or path.name.removesuffix(_RECORD_SUFFIX) in names:
                    self._end(path)
        # Children that ended by themselves or were stopped by another command are reaped too.
        self._children = {name: child for name, child in self._children.items() if child.poll() is None}

    def status(self, components: Sequence[Component]) -> list[ComponentStatus]:
        """Return the status of each component; those that run are checked for an answer."""
        return [self._status_of(component) for component in components]

    def recorded_names(self) -> list[str]:
        """Return the names of the components of the folder that have a record, running or dead, the oldest first."""
        return [path.name.removesuffix(_RECORD_SUFFIX) for path in self.record_paths()]

    def running_ports(self) -> dict[str, int]:
        """Return the ports of all running components by setting name; they override those of the command line."""
        return {name: port for record in self.running() for name, port in record.ports.items()}

    def running(self) -> list[ProcessRecord]:
        """Return the records of the components that run, the oldest first."""
        records = map(ProcessRecord.load, self.record_paths())
        return [record for record in records if record and record.is_running()]

    def record(self, name: str) -> ProcessRecord | None:
        """Return the record of a component that runs; None if it does not run."""
        return next((record for record in self.running() if record.name == name), None)

    def record_paths(self) -> list[Path]:
        """Return the process records in this folder, the oldest first."""
        return sorted(self.folder.glob(f"*/*{_RECORD_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)

    def _start(self, component: Component) -> ProcessRecord:
        self._end(component.record)  # The process of an old record may have left children.
        component.prepare()
        if component.log.exists() and component.log.stat().st_size > _LOG_BYTES_MAX:
            component.log.replace(component.log.with_suffix(".log.1"))  # one older log is kept
        self._children[component.name], record = start(component, die_with_parent=self.die_with_parent)
        record.save(component.record)
        return record

    def _wait_until_ready(self, component: Component, record: ProcessRecord, began_s: float, how: str) -> None:
        deadline_s = component.ready_deadline_s
        while True:
            if not record.is_running():
                self._fail(component, "its process ended while it was starting")
            reason = component.not_ready_because()
            if reason is None:
                break
            if time.monotonic() > began_s + deadline_s:
                self._fail(component, f"not ready after {deadline_s:.0f} s: {reason}")
            time.sleep(0.2)
        where = ", ".join((f"{time.monotonic() - began_s:.1f} s", *component.endpoints.values()))
        self.report(f"{component.name}: {how}, {where}")

    def _fail(self, component: Component, finding: str) -> None:
        tail = "\n  ".join(last_lines(component.log, 15)) or "(nothing)"
        where = f"the last lines of {component.log}"
        message = f"{component.name}: {finding}. Fix the fault in {where} and start again:\n  {tail}"
        raise CommandFailed(message)

    def _end(self, path: Path) -> None:
        record = ProcessRecord.load(path)
        if record is None:
            path.unlink(missing_ok=True)
            return
        ended = stop(record, deadline_s=_STOP_DEADLINE_S)
        child = self._children.pop(record.name, None)
        if child is not None:
            child.wait(timeout=_STOP_DEADLINE_S)
        path.unlink(missing_ok=True)
        if ended:
            self.report(f"{record.name}: ended")

    def _status_of(self, component: Component) -> ComponentStatus:
        name, log = component.name, str(component.log)
        record = ProcessRecord.load(component.record)
        if record is None:
            return ComponentStatus(name, "down", None, {}, log)
        if not record.is_running():
            ended = f"process {record.pid} ended by itself; see its log"
            return ComponentStatus(name, "dead", None, {}, log, ended)
        reason, endpoints = component.not_ready_because(), dict(component.endpoints)
        return ComponentStatus(name, "starting" if reason else "up", record.pid, endpoints, log, reason)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Lock the folder, because two commands at the same time would start the same component twice."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"another `reasoner stack` command runs in {self.folder}; wait until it has ended"
                raise CommandFailed(message) from None
            yield


_RECORD_SUFFIX = ".process.json"


def _refuse_without_programs(components: Sequence[Component]) -> None:
    """Say everything that is missing in one message, so that one more command is enough."""
    faults: dict[str, str] = {}
    for component in components:
        try:
            component.command()
        except CommandFailed as fault:
            faults[str(fault)] = fault.part if isinstance(fault, MissingPart) else ""
    parts = [part for part in faults.values() if part]
    if len(parts) > 1:
        faults[f"all of these in one: `reasoner setup {' '.join(parts)}`"] = ""
    if faults:
        raise CommandFailed("\n".join(faults))


def _refuse_busy_ports(component: Component) -> None:
    ports = (*component.ports.items(), *component.counted_ports.items())
    busy = [(name, port) for name, port in ports if not is_port_free(port)]
    if busy:
        named = ", ".join(f"{port} (change it with {ways_to_set(name)})" for name, port in busy)
        message = f"{component.name}: another program uses port {named}; end that program or choose another port"
        raise CommandFailed(message)


def _refuse_another_use(component: Component, record: ProcessRecord) -> None:
    lacking = [name for name in component.uses if name not in record.uses]
    if lacking:
        message = (
            f"{component.name} runs since before {', '.join(lacking)} was asked for, and does not use it: run "
            f"`reasoner stack down {component.name.partition('-')[0]}`, then the same command again"
        )
        raise CommandFailed(message)
