"""A component as the supervisor sees it: where it writes, how it is started, and when it is ready."""

import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A native process of the stack. It writes only into `folder` and listens on loopback only.

    - prepare: creates data and configuration, or leaves them if they exist. Raises CommandFailed with the next step.
    - command: runs in the foreground: its process id must be the one that was started. Raises CommandFailed where its
      program is missing, also before `prepare`.
    - not_ready_because: None if it serves requests, else what is missing. Called repeatedly; must not wait for long.
    - setpriv: options of the command of that name, empty for our own user.
    - ports: setting name -> number; each is checked to be free before the start.
    - counted_ports: the same for ports that are counted from a setting of another component.
    - uses: components of the folder that its configuration names; it must be started again to use another one.
    - endpoints: addresses for users.
    """

    name: str
    folder: Path
    command: Callable[[], list[str]]
    prepare: Callable[[], None] = lambda: None
    not_ready_because: Callable[[], str | None] = lambda: None
    ready_deadline_s: float = 60.0
    environment: Callable[[], Mapping[str, str]] = os.environ.copy
    setpriv: Callable[[], Sequence[str]] = tuple
    stop_signal: signal.Signals = signal.SIGTERM
    ports: Mapping[str, int] = field(default_factory=dict)
    counted_ports: Mapping[str, int] = field(default_factory=dict)
    uses: Sequence[str] = ()
    endpoints: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Return the file of its output, which grows over restarts."""
        return self.folder / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """Return the file of its process record."""
        return self.folder / f"{self.name}.process.json"


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last `count` lines of a text file; none if there is no file."""
    try:
        with path.open(errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, count)]
    except OSError:
        return []
