"""Submission of a job to a Flink cluster, by Flink's own command line or by REST; both show its faults at once."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from sys import executable
from typing import Final
from urllib.parse import urlsplit

import jobs
from jobs.graph import JOBS, Job
from jobs.settings import JobConfig, load
from reasoner.clients import lake
from reasoner.clients.flink_errors import why
from reasoner.clients.flink_jars import run_program
from reasoner.clients.flink_rest import FlinkRest, NoAnswer
from reasoner.clients.topics import create_topics, rule_specs, sink_specs
from reasoner.errors import CommandFailed, WrongUse, nearest
from reasoner.runs import journal, resume
from reasoner.runs.preflight import Preflight
from reasoner.runs.way import Way, usual_way
from reasoner.stack.environment import flink_env, flink_home
from reasoner.waiting import wait_until

MODULE: Final = "jobs.insights"
SCRIPT: Final = Path(jobs.__path__[0]) / "insights.py"
SUBMIT_DEADLINE_S: Final = 180.0
LATE_DEADLINE_S: Final = 60.0  # for a job whose start was not answered in time
PARTITIONS: Final = 4  # of topics that are created with a job
_JOB_ID: Final = re.compile(r"JobID ([0-9a-f]{32})")


def job_named(name: str) -> Job:
    """Return the job of this name. Raises WrongUse with the names that there are."""
    if name not in JOBS:
        message = f"unknown job {name!r}; {nearest(name, JOBS)}"
        raise WrongUse(message)
    return JOBS[name]


@dataclass(frozen=True)
class Submission:
    """A job to submit, and where it begins."""

    # Name of the job in JOBS.
    job: str
    # YAML file of its settings.
    file: Path
    # Where the job continues: a path, `latest`, or "". State of steps that the job no longer has is an
    # error and is never dropped.
    savepoint: str = ""
    # Whether the topics are read from their beginning, whatever the group has committed.
    from_start: bool = False
    # How the program reaches the cluster; None: `client` where `reasoner setup` has run, else `rest`.
    by: Way | None = None

    def check(self) -> JobConfig:
        """Return the settings, read once. Raises WrongUse or BadConfig with the faults, before Flink is called."""
        return self._config

    @cached_property
    def _config(self) -> JobConfig:
        job_named(self.job)
        config = load(self.file)
        if self.savepoint and self.from_start:
            message = "found --savepoint and --from-start, expected one of them: a savepoint has its own offsets"
            raise WrongUse(message)
        return config

    def continued(self, rest: FlinkRest) -> "Submission":
        """Return a submission that goes on where the last run of this name ended, and begins where there was none."""
        return replace(self, savepoint=resume.LATEST) if resume.has_run(self.check().name, rest) else self

    def running_id(self, rest: FlinkRest) -> str:
        """Return the id of the job of this name that runs, or will run again without anyone's doing; "" without one."""
        name = self.check().name
        return next((job.job_id for job in rest.overview() if job.name == name and job.is_active), "")

    @property
    def _way(self) -> Way:
        return self.by or usual_way()

    def arguments(self) -> list[str]:
        """Return the arguments of `jobs.insights` where it can read the file of the settings."""
        return ["--config", str(self.file.resolve()), *self._what()]

    def _what(self) -> list[str]:
        return ["--job", self.job, *(["--from-start"] if self.from_start else [])]

    def create(self) -> list[str]:
        """Create the topics and tables that the job writes; return a line for each. It is safe to repeat."""
        config = self.check()
        kafka = config.kafka
        made = create_topics(kafka.bootstrap_servers, sink_specs(kafka, PARTITIONS) | rule_specs(kafka))
        return [*(f"{name}: created" for name in made), *lake.create_tables(config.lake)]

    def preflight(self, rest: FlinkRest) -> list[str]:
        """Check that the job can work on the cluster; return notes. Raises CommandFailed with all faults otherwise."""
        config = self.check()
        checks = Preflight(self.job, config, str(self.file), rest, self._way)
        refuse(config.name, checks.faults())
        return [*checks.notes(), *self._start_notes(config, rest)]

    def preflight_here(self) -> None:
        """Check that the job can work on a mini-cluster: topics and tables. Raises CommandFailed with all faults."""
        config = self.check()
        checks = Preflight(self.job, config, str(self.file), FlinkRest(""), "client")
        refuse(config.name, [*checks.topic_faults(), *checks.table_faults()])

    def _start_notes(self, config: JobConfig, rest: FlinkRest) -> list[str]:
        """Say what a start without a savepoint means where the job has run before."""
        if self.from_start:
            return ["the topics are read from their beginning: what the tables have already counts twice"]
        if self.savepoint or not any(job.name == config.name for job in rest.overview()):
            return []
        return [
            f"job {config.name} has run here before: without --savepoint it goes on at the committed offsets, without "
            "its models, and the open parts of roll-ups and windows are lost"
        ]

    def savepoint_path(self, rest: FlinkRest) -> str:
        """Return the path of the savepoint, "" without one. Raises WrongUse where `latest` is not known."""
        return resume.point(self.check(), rest, self.savepoint) if self.savepoint else ""

    def start(self, target: str, replaces: str = "") -> str:
        """Submit the job as `submit` does, and record the start in the journal, from which `rollback` goes back.

        replaces: id of the job that this one takes over from, where this is an upgrade. One that the cluster refuses is
        recorded too, with an empty id.
        """
        rest, name = FlinkRest.at(target), self.check().name
        journal.check(name)
        savepoint, settings = self.savepoint_path(rest), self.file.read_text()
        what = (self.job, package_version(), settings, savepoint, replaces)
        try:
            job_id = self.submit(target)
        except CommandFailed:
            if replaces:
                journal.record(name, journal.Start(journal.now(), rest.url, journal.REFUSED, *what))
            raise
        journal.record(name, journal.Start(journal.now(), rest.url, job_id, *what))
        return job_id

    def submit(self, target: str) -> str:
        """Submit the job to the cluster at `target` (its REST address) and return its id. Raises CommandFailed.

        Returns when the job has read its savepoint, or why it could not. The workers' Python must have this package: on
        this machine it is the one that runs this command.
        """
        config, rest = self.check(), FlinkRest.at(target)
        if rest.is_application():
            message = (
                f"{rest.url} is an application cluster, which runs the job that it was started with: change its "
                "settings there, or give the address of a session cluster"
            )
            raise CommandFailed(message)
        refuse(config.name, list(Preflight(self.job, config, str(self.file), rest, self._way).settings_faults()))
        # Flink's own command tries an address that does not answer for over a minute.
        known = {job.job_id for job in rest.overview()}
        savepoint = self.savepoint_path(rest)
        try:
            if self._way == "rest":
                words = ["-pym", MODULE, "--settings", self.file.read_text(), *self._what()]
                return run_program(rest, words, savepoint)
            return self._submit_by_client(urlsplit(rest.url).netloc, savepoint)
        except NoAnswer as failure:
            return _started_late(rest, config.name, known, failure)

    def _submit_by_client(self, address: str, savepoint: str) -> str:
        command = [
            str(flink_home() / "bin" / "flink"),
            *("run", "--detached", "--jobmanager", address, "-pyclientexec", executable, "-pyexec", executable),
            *(["--fromSavepoint", savepoint] if savepoint else []),
            *("-py", str(SCRIPT), *self.arguments()),
        ]
        try:
            done = subprocess.run(
                command, env=flink_env(), capture_output=True, text=True, timeout=SUBMIT_DEADLINE_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            message = f"the cluster at {address} has not taken the job within {SUBMIT_DEADLINE_S:.0f} s; is it up?"
            raise NoAnswer(message) from error
        found = _JOB_ID.search(done.stdout)
        if done.returncode or not found:
            message = f"the cluster at {address} did not take the job: {why(done.stdout + done.stderr)}"
            raise CommandFailed(message)
        return found.group(1)


def _started_late(rest: FlinkRest, name: str, known: set[str], failure: NoAnswer) -> str:
    """Return the id of the new job of this name, whose start got no answer. Raises CommandFailed where none comes."""

    patient = rest.waiting(LATE_DEADLINE_S)  # the JobManager may be busy with the start

    def started() -> str:
        new = (job for job in patient.overview() if job.name == name and job.job_id not in known)
        return next((job.job_id for job in new), "")

    try:
        return wait_until(started, f"job {name} is on {rest.url}", LATE_DEADLINE_S)
    except NoAnswer:
        raise failure from None
    except CommandFailed as missing:
        message = f"{failure}; no job {name} has come, and it may still come: look at {rest.url} before the next try"
        raise CommandFailed(message) from missing


def package_version() -> str:
    return version("metric-reasoner")


def refuse(name: str, faults: Sequence[str]) -> None:
    """Raise CommandFailed with all faults, if there are any."""
    if faults:
        message = "\n  ".join((f"{name} is not submitted:", *faults))
        raise CommandFailed(message)
