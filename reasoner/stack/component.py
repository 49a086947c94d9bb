"""What the supervisor needs to know about a component, and nothing of what the component is."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

__all__ = ["Component", "component_log", "component_record", "last_lines"]


class Component(Protocol):
    """One native process of the stack. Everything it writes lies in `folder`; it listens on loopback only.

    ports: setting name -> number, each checked to be free before the start. endpoints: what it offers, for users.
    setpriv: options of the command of that name, empty for our own user.
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
        """Make data and configuration, or leave them when they are there. Raises CommandFailed with the next step."""

    def command(self) -> list[str]:
        """The process in the foreground: its id must be the one that we started."""

    def environment(self) -> dict[str, str]: ...

    def not_ready_because(self) -> str | None:
        """None when it serves requests, else what is still missing. Called again and again; must not block for long."""


def component_log(component: Component) -> Path:
    """Its output, which grows over restarts."""
    return component.folder / f"{component.name}.log"


def component_record(component: Component) -> Path:
    """Its process record."""
    return component.folder / f"{component.name}.process.json"


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a text file, without reading more than 64 kB of it; none when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 65_536))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []
