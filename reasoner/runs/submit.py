"""Submission of a job to a Flink cluster with Flink's own command line, which shows the job's faults at once."""

import re
import subprocess
from pathlib import Path
from sys import executable
from typing import Final
from urllib.parse import urlsplit

from jobs.graph import JOBS, Job
from jobs.settings import load
from reasoner.errors import CommandFailed, WrongUse
from reasoner.stack.environment import checkout, flink_env, flink_home

SCRIPT: Final = "jobs/insights.py"
SUBMIT_DEADLINE_S: Final = 180.0
_JOB_ID: Final = re.compile(r"JobID ([0-9a-f]{32})")


def job_named(name: str) -> Job:
    """Return the job of this name. Raises WrongUse with the names that there are."""
    if name not in JOBS:
        message = f"unknown job {name!r}; there are {', '.join(JOBS)}"
        raise WrongUse(message)
    return JOBS[name]


def check(job: str, config: Path) -> None:
    """Check the name and the settings of a job before Flink is called. Raises WrongUse or BadConfig with the faults."""
    job_named(job)
    load(config)


def submit(job: str, config: Path, target: str, savepoint: str = "") -> str:
    """Submit a job to the cluster at `target` (its REST address) and return the id of the job. Raises CommandFailed.

    The workers' Python must have this package: on this machine it is the one that runs this command. savepoint: where
    the job continues; state of steps that the job no longer has is an error and is never dropped.
    """
    check(job, config)
    address = urlsplit(target if "//" in target else f"//{target}").netloc
    command = [
        str(flink_home() / "bin" / "flink"),
        *("run", "--detached", "--jobmanager", address, "-pyclientexec", executable, "-pyexec", executable),
        *(["--fromSavepoint", savepoint] if savepoint else []),
        *("-py", str(checkout() / SCRIPT), "--config", str(config.resolve()), "--job", job),
    ]
    try:
        done = subprocess.run(
            command, env=flink_env(), capture_output=True, text=True, timeout=SUBMIT_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        message = f"the cluster at {address} has not taken the job within {SUBMIT_DEADLINE_S:.0f} s; is it up?"
        raise CommandFailed(message) from error
    found = _JOB_ID.search(done.stdout)
    if done.returncode or not found:
        message = f"the cluster at {address} did not take the job:\n{_reasons(done.stdout + done.stderr)}"
        raise CommandFailed(message)
    return found.group(1)


def _reasons(output: str) -> str:
    """Return the lines of the output that give the reason, without the stack trace."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    return "\n".join(f"  {line[:300]}" for line in lines[-8:])
