"""Interface between the supervisor and a component."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

__all__ = ["Component", "component_log", "component_record", "last_lines"]


class Component(Protocol):
    """A native process of the stack. It writes only into `folder` and listens on loopback only.

    - ports: setting name -> number; each is checked to be free before the start.
    - endpoints: addresses for users.
    - setpriv: options of the command of that name, empty for our own user.
    """

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def ports(self) -> Mapping[str, int]: ...
    @property
    def endpoints(self) -> Mapping[str, str]: ...
    @property
    def setpriv(self) -> Sequence[str]: ...
    @property
    def stop_signal(self) -> signal.Signals: ...
    @property
    def ready_deadline_s(self) -> float: ...

    def prepare(self) -> None:
        """Create data and configuration, or leave them if they exist. Raises CommandFailed with the next step."""

    def command(self) -> list[str]:
        """Return the command that runs in the foreground: its process id must be the one that was started."""

    def environment(self) -> dict[str, str]: ...

    def not_ready_because(self) -> str | None:
        """Return None if it serves requests, else what is missing. Called repeatedly; must not wait for long."""


def component_log(component: Component) -> Path:
    """Return the file of its output, which grows over restarts."""
    return component.folder / f"{component.name}.log"


def component_record(component: Component) -> Path:
    """Return the file of its process record."""
    return component.folder / f"{component.name}.process.json"


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last `count` lines of a text file, reading at most 64 kB; none if there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 65_536))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []
