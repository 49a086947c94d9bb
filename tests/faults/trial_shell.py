"""What a user types and sees in the trial: commands with their output, and programs beside them."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from time import time

from reasoner.clients.insight_topic import committed, poll
from state_schemas.contracts.insight import Insight, from_json

TRACEBACKS = ("Traceback (most recent call last)", "\n\tat ")
DEADLINE_S = 590.0


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended, or a program that was stopped. output: its standard output and its errors."""

    command: str
    code: int
    output: str

    @property
    def last_line(self) -> str:
        return self.output.strip().rpartition("\n")[2]


@dataclass(frozen=True)
class Shell:
    """A terminal in a folder. transcript: everything that ran in it, in order."""

    folder: Path
    environment: Mapping[str, str]
    transcript: list[Done] = field(default_factory=list)

    def run(self, text: str, *, fails: bool = False) -> str:
        """Run commands until the first that fails, and return what they print; one must fail where `fails` is set."""
        words = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            words, cwd=self.folder, env=dict(self.environment), text=True, timeout=DEADLINE_S, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.transcript.append(Done(text, done.returncode, done.stdout))
        assert (done.returncode != 0) == fails, f"{text}\nended with {done.returncode}\n{done.stdout}"
        return done.stdout

    @contextmanager
    def beside(self, words: Sequence[str], log: Path, stop: signal.Signals) -> Iterator[None]:
        """Run a program while the body runs; it must still run at the end, and end at the signal."""
        # A program that itself was started in the background, by `nohup` or `&`, passes on that SIGINT is ignored.
        with log.open("w") as output:
            program = subprocess.Popen(
                ["env", "--default-signal=INT", *words],
                cwd=self.folder,
                env=dict(self.environment),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield
            assert program.poll() is None, f"{words} has ended with {program.returncode}: {log.read_text()[-2_000:]}"
        finally:
            program.send_signal(stop)
            try:
                code = program.wait(60.0)
            except subprocess.TimeoutExpired:
                program.kill()
                code = program.wait()
            self.transcript.append(Done(" ".join(words), code, log.read_text()))

    def with_tracebacks(self) -> list[str]:
        """Return the commands whose output has a traceback of Python or Java."""
        return [done.command for done in self.transcript if any(mark in done.output for mark in TRACEBACKS)]


@dataclass(frozen=True, slots=True)
class Seen:
    """A revision, and when a reader of committed messages got it, epoch s."""

    at_s: float
    insight: Insight


class Reader:
    """A reader of `insight_out` in a thread, as the program of a team would read it."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.seen: list[Seen] = []
        self._ended = Event()
        self._thread = Thread(target=self._read, args=(bootstrap, topic), daemon=True)
        self._thread.start()

    def _read(self, bootstrap: str, topic: str) -> None:
        with committed(bootstrap, topic) as consumer:
            while (bodies := poll(consumer, 500)) or not self._ended.is_set():
                self.seen += [Seen(time(), from_json(body)) for body in bodies]

    def close(self) -> None:
        """End the thread, after the messages that are there."""
        self._ended.set()
        self._thread.join(30.0)


def environment_of(bin_folder: Path, state: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the environment of a new user: a home for the journal, and the ports for `reasoner stack`."""
    path = f"{bin_folder}:{os.environ['PATH']}"
    given = {f"REASONER_{name.upper()}": str(port) for name, port in ports.items()}
    own = {name: value for name, value in os.environ.items() if name != "JAVA_TOOL_OPTIONS"}  # of short tests
    return {**own, "PATH": path, "XDG_STATE_HOME": str(state), "COLUMNS": "120", **given}
