"""A wrong situation: how it is made, the command that a user types in it, and what the user must see."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
import yaml

from jobs.settings import JobConfig
from reasoner.stack import RunningStack
from reasoner.stack.settings import free_ports
from reasoner.waiting import wait_until
from tests.tidy.rules import ROOT

PROMISED_S: Final = 15.0  # until a command has said that something does not answer
START_S: Final = 15.0  # of the program itself, beside others on two cores
LINES_MAX: Final = 14
SHOWN_LINES: Final = 4
SHOWN_LETTERS: Final = 420
INTERRUPTED: Final = 130
STACKS: Final = ("Traceback (most recent call last)", "\tat ", "Exception in thread", "Exception ignored")


@dataclass(frozen=True)
class Engines:
    """The real components of the rows that need them.

    - job: a job that runs; its settings are those of the row.
    - savepoint: path of one of that job.
    """

    stack: RunningStack
    job: JobConfig
    savepoint: str


@dataclass
class Place:
    """The folder in which a command runs, with `job.yaml`, and the variables that its command uses.

    Each value is shown as its `$NAME`, so that the table is the same on each machine.
    """

    folder: Path
    stack: ExitStack
    values: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    engines: Engines | None = None

    def settings(self, **sections: object) -> None:
        """Write settings with a catalog in this folder; a section replaces the default one."""
        (closed,) = free_ports(1)
        self.values.setdefault("CLOSED", str(closed))
        lake = {"uri": f"jdbc:sqlite:{self.folder}/catalog.db", "warehouse": f"file://{self.folder}/warehouse"}
        found = {"lake": lake, "kafka": {"bootstrap_servers": f"127.0.0.1:{closed}"}, **sections}
        (self.folder / "job.yaml").write_text(yaml.safe_dump(found))

    def file(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    @property
    def real(self) -> Engines:
        assert self.engines is not None, "this row needs the engines"
        return self.engines


@dataclass(frozen=True)
class Situation:
    """A row of the table.

    - says: parts of what the user must see: what was found, what was expected, the next step.
    - made: makes the situation; without it there is `job.yaml` with a broker that does not run.
    - mounts: options of a tmpfs that is mounted on the folder `disk`.
    - interrupt_when: Ctrl-C is pressed when this text is in the output, or, for `/name`, when that file is being read.
    - quick: whether the row runs in `make test` too.
    """

    name: str
    command: str
    says: tuple[str, ...]
    code: int = 1
    made: Callable[[Place], None] = Place.settings
    mounts: str = ""
    interrupt_when: str = ""
    quick: bool = False
    seconds_max: float = PROMISED_S + START_S


@dataclass(frozen=True)
class Seen:
    """What a command printed, and how it ended."""

    code: int
    output: str
    seconds: float


def run(row: Situation, place: Place) -> Seen:
    """Make the situation and run the command in it, as a shell would."""
    row.made(place)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REASONER_", "PYTHON", "JAVA_"))}
    home = str(place.folder)
    state = {"HOME": home, "TMPDIR": home, "XDG_STATE_HOME": f"{home}/state", "REASONER_FOLDER": ".run"}
    environment = {**kept, "PATH": path, "LC_ALL": "C.UTF-8", **state, **place.values, **place.environ}
    shell = ["bash", "-c", f"set -o pipefail; {row.command}"]
    if row.mounts:
        (place.folder / "disk").mkdir()
        if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
            pytest.skip("a disk cannot be mounted: no user namespaces")
        mounted = f"mount -t tmpfs -o {row.mounts} none disk && {row.command}"
        shell = ["unshare", "-rm", "bash", "-c", mounted]
    if row.interrupt_when:
        shell[-1] = f"exec {row.command}"
    began_s = time.monotonic()
    output = place.folder / "output"
    with output.open("wb") as out:
        child = subprocess.Popen(
            shell,
            cwd=place.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        if row.interrupt_when:
            _wait_for(row.interrupt_when, place, child.pid)
            began_s = time.monotonic()
            os.killpg(child.pid, signal.SIGINT)  # as a terminal does
        try:
            code = child.wait(row.seconds_max)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            pytest.fail(f"still runs after {row.seconds_max:.0f} s; it said:\n{output.read_text(errors='replace')}")
    return Seen(code, output.read_text(errors="replace"), time.monotonic() - began_s)


def _wait_for(what: str, place: Place, pid: int) -> None:
    output = place.folder / "output"
    if what.startswith("/"):
        opened = Path(f"/proc/{pid}/fd")
        reads = str(place.folder / what[1:])
        wait_until(lambda: reads in [os.path.realpath(fd) for fd in opened.iterdir()], f"{reads} is read", 120.0, 0.02)
    else:
        wait_until(lambda: what in output.read_text(errors="replace"), f"{what!r} in {output}", 120.0, 0.02)


def faults(row: Situation, seen: Seen) -> list[str]:
    """Return what is wrong with what the user sees; none if it is a sentence."""
    lines = seen.output.splitlines()
    found = [f"{stack!r} in the output" for stack in STACKS if stack in seen.output]
    found += [f"{part!r} is missing" for part in row.says if part not in seen.output]
    if seen.code != row.code:
        found.append(f"exit code {seen.code}, expected {row.code}")
    if len(lines) > LINES_MAX:
        found.append(f"{len(lines)} lines, expected at most {LINES_MAX}")
    return found


_VOLATILE: Final = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"127\.0\.0\.1:\d{5}\b"), "127.0.0.1:$PORT"),
    (re.compile(r"reasoner-submit-\w{8}\b"), "reasoner-submit-ID"),
    (re.compile(r"\b\d+\.\d s\b"), "N s"),
)


def table_row(row: Situation, seen: Seen, place: Place) -> str:
    """Return the row of the Markdown table. What differs between machines has the name of its variable."""
    text = seen.output
    for name, value in sorted(place.values.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"${name}")
    for path, name in ((place.folder, "$PWD"), (ROOT, "$CHECKOUT")):
        text = text.replace(str(path), name)
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = [f"{line[:SHOWN_LETTERS]} …" if len(line) > SHOWN_LETTERS else line for line in lines[:SHOWN_LINES]]
    shown += ["…"] if len(lines) > SHOWN_LINES else []
    cells = (row.name, _code(row.command), "<br>".join(map(_code, shown)) or "(nothing)", str(seen.code))
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


HEAD: Final = """# Wrong situations, and what the user sees

Each row was made and its command run by `make test-faults`, which writes this file; `make test` runs a part of them.
No command shows a stack trace: it says what was found, what was expected and the next step. `--verbose` shows the
rest. What does not answer is said within 15 s. Ports, addresses and folders stand as variables.

Exit codes: 0 ok, 1 a check or an action failed, 2 wrong use or wrong settings, 130 Ctrl-C.

| situation | command | what the user sees | exit code |
|---|---|---|---|
"""


def page(rows: Mapping[str, str]) -> str:
    return HEAD + "\n".join(rows.values()) + "\n"
