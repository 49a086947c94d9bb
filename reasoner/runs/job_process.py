"""A job as a separate process on a mini-cluster: started with a config file, watched and stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from sys import executable
from typing import Final

import yaml

from jobs.settings import JobConfig
from reasoner.errors import CommandFailed
from reasoner.stack.component import Component, last_lines
from reasoner.stack.environment import flink_env
from reasoner.stack.process import ProcessRecord, start, stop
from reasoner.waiting import Answer, wait_until
from state_schemas.contracts.settings import Lake

STOP_DEADLINE_S: Final = 20.0


def write_config(config: JobConfig, path: Path) -> Path:
    """Write the settings as the YAML file that a job reads; return its path."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return path


@dataclass
class JobProcess:
    """A running `python -m MODULE`. log: its output, with the reason if it fails."""

    child: Popen[bytes]
    record: ProcessRecord
    log: Path

    def wait_until(self, condition: Callable[[], Answer], what: str, deadline_s: float) -> Answer:
        """Return the first true answer of `condition` while the job runs; `what` is in words.

        Raises CommandFailed, with the end of the log if the job has ended.
        """

        def checked() -> Answer:
            if (code := self.child.poll()) is not None:
                raise CommandFailed(self._ended(code))
            return condition()

        return wait_until(checked, f"{what}; the job's log is {self.log}", deadline_s)

    def wait(self, deadline_s: float) -> None:
        """Wait until a bounded job has ended with code 0. Raises CommandFailed if it fails or takes longer."""
        wait_until(lambda: self.child.poll() is not None, f"the job ends; its log is {self.log}", deadline_s)
        if self.child.returncode:
            raise CommandFailed(self._ended(self.child.returncode))

    def _ended(self, code: int) -> str:
        tail = "\n  ".join(last_lines(self.log, 12))
        return f"the job has ended with code {code}; the end of {self.log}:\n  {tail}"


@contextmanager
def job_process(config: JobConfig, folder: Path, module: str = "jobs.insights") -> Iterator[JobProcess]:
    """Yield the job, started before the `with` body and stopped after it.

    folder: for its config, logs and output; it must exist.
    """
    logs = folder / "flink-log"
    logs.mkdir(exist_ok=True)
    file = write_config(config, folder / "job.yaml")
    job = Component(
        name="job",
        folder=folder,
        # -P: a package `jobs` in the working directory is not imported in place of this one.
        command=lambda: [executable, "-P", "-m", module, "--config", str(file)],
        environment=lambda: flink_env(log_folder=logs),
    )
    child, record = start(job, die_with_parent=True)
    try:
        yield JobProcess(child, record, job.log)
    finally:
        stop(record, deadline_s=STOP_DEADLINE_S)
        child.wait(STOP_DEADLINE_S)


def lake_in(folder: Path) -> Lake:
    """Return the settings of a catalog in SQLite with its warehouse in this folder, for a single writing process."""
    return Lake(uri=f"jdbc:sqlite:{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
