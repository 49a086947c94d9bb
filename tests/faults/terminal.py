"""A person at a terminal: commands of `reasoner` as they are typed, and what they print."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reasoner.stack import RunningStack
from reasoner.waiting import wait_until

MINUTE_S = 60.0
JOB_ID_CHARS = 32
TRACES = ("Traceback", "\tat ", "Exception in thread")


@dataclass(frozen=True)
class Person:
    """A person at a terminal."""

    folder: Path
    stack: RunningStack
    config: Path

    def environment(self) -> dict[str, str]:
        ports = {
            f"REASONER_{name.upper()}": str(getattr(self.stack.settings, name))
            for name in type(self.stack.settings).model_fields
            if name.endswith(("_port", "_memory", "_taskmanagers"))
        }
        return {**os.environ, **ports, "XDG_STATE_HOME": str(self.folder / "state"), "PYTHONUNBUFFERED": "1"}

    def command(self, *words: str) -> list[str]:
        return [str(Path(sys.executable).parent / "reasoner"), *words]

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command of `reasoner` and return what it prints. It must end with this code and without a traceback."""
        done = subprocess.run(
            self.command(*words), env=self.environment(), cwd=self.folder, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{words}: exit code {done.returncode}\n{said}"
        assert not any(trace in said for trace in TRACES), said
        return said

    @contextmanager
    def tail(self) -> Iterator["Tail"]:
        """Run `insights tail` while the `with` body runs; it must still run at its end."""
        file = self.folder / "tail.txt"
        with file.open("wb") as out:
            words = self.command("insights", "tail", "--config", str(self.config))
            process = subprocess.Popen(words, env=self.environment(), stdout=out, stderr=subprocess.STDOUT)
            try:
                yield Tail(file)
                assert process.poll() is None, f"tail has ended:\n{file.read_text()}"
            finally:
                process.terminate()
                process.wait()
        assert not any(trace in file.read_text() for trace in TRACES), file.read_text()


@dataclass(frozen=True)
class Tail:
    """What `insights tail` has printed."""

    file: Path

    def size(self) -> int:
        return self.file.stat().st_size

    def text(self) -> str:
        return self.file.read_text()

    def seconds_until(self, words: Sequence[str], after: int) -> float:
        """Wait until one of the words is printed behind `after` bytes; return after how many seconds."""
        begin_s = time.monotonic()
        said = f"one of {words} in {self.file}"
        wait_until(lambda: any(word in self.text()[after:] for word in words), said, MINUTE_S)
        return round(time.monotonic() - begin_s, 1)
