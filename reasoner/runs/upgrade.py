"""Upgrade of a running job to other settings or another version of this package, and the way back."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from jobs.settings import JobConfig, load
from reasoner.clients.flink_rest import FlinkRest, JobInfo
from reasoner.errors import CommandFailed
from reasoner.runs import journal, savepoints
from reasoner.runs.flink_errors import causes
from reasoner.runs.orphans import end_orphans
from reasoner.runs.preflight import Preflight
from reasoner.runs.resume import local_path
from reasoner.runs.submit import Submission, package_version, refuse
from reasoner.waiting import wait_until

WORKS_DEADLINE_S: Final = 240.0  # beside the interval of the first checkpoint: workers compile and restore their state
CANCEL_DEADLINE_S: Final = 120.0


def upgrade(asked: Submission, rest: FlinkRest) -> str:
    """Stop the running job of this name with a savepoint, go on from it as asked, and return the id of the new job.

    Returns when the new job has completed a checkpoint. Raises CommandFailed with all faults before anything is
    stopped, or with the reason and the way back where the new job does not work.
    """
    config = asked.check()
    running = savepoints.ready(rest, config.name)
    before = next((start for start in journal.starts(config.name, rest.url) if start.job_id == running.job_id), None)
    faults = Preflight(asked.job, config, str(asked.file), rest).successor_faults(running.job_id)
    refuse(config.name, [*faults, *(_state_faults(config, before) if before else [])])
    path = savepoints.stop(config.name, rest.url, "", drain=False)
    try:
        job_id = replace(asked, savepoint=path).start(rest.url, replaces=running.job_id)
    except CommandFailed as failure:
        file = _kept_settings(config.name, before) if before else "FILE"
        again = f"reasoner submit --config {file} --target {rest.url} --savepoint {path}"
        message = f"{failure}\nthe job of before has ended with a savepoint; start it again with `{again}`"
        raise CommandFailed(message) from failure
    try:
        _wait_until_it_works(config, rest, job_id)
    except CommandFailed as failure:
        message = f"{failure}\n`reasoner rollback {config.name} --target {rest.url}` goes back to what ran before"
        raise CommandFailed(message) from failure
    return job_id


def _state_faults(config: JobConfig, before: journal.Start) -> list[str]:
    """Return why the state of the job of before does not fit these settings."""
    file = _kept_settings(config.name, before)
    found, expected = config.engine.max_parallelism, load(file).engine.max_parallelism
    if found == expected:
        return []
    return [f"engine.max_parallelism is {found}, expected {expected} as in the running job: it divides the state"]


def _wait_until_it_works(config: JobConfig, rest: FlinkRest, job_id: str) -> None:
    def works() -> bool:
        if not JobInfo(job_id, "", rest.jobs()[job_id], 0, 0).is_active or rest.restarts(job_id):
            reason = causes(rest.failure(job_id))[-1]
            message = f"job {job_id} does not work: {reason}; see {rest.url}/#/job/{job_id}/exceptions"
            raise CommandFailed(message)
        return rest.completed_checkpoints(job_id) > 0

    interval_s = config.engine.checkpoint_interval_ms / 1000
    wait_until(
        works, f"job {job_id} has completed a checkpoint; see {rest.url}/#/job/{job_id}", WORKS_DEADLINE_S + interval_s
    )


@dataclass(frozen=True)
class Rollback:
    """The way back from an upgrade: the job that it started, and the one that it stopped."""

    name: str
    rest: FlinkRest
    upgraded: journal.Start
    before: journal.Start

    @classmethod
    def of(cls, name: str, rest: FlinkRest) -> "Rollback":
        """Return the way back from the last start of this name on the cluster. Raises CommandFailed without one."""
        starts = journal.starts(name, rest.url)
        upgraded = starts[-1] if starts else None
        if upgraded is None or not upgraded.replaces:
            message = (
                f"the last start of {name} on {rest.url} in {journal.journal_path(name)} was no upgrade: there is "
                "nothing to go back to; `reasoner submit --savepoint PATH` starts from a savepoint"
            )
            raise CommandFailed(message)
        before = next((start for start in starts if start.job_id == upgraded.replaces), None)
        if before is None:
            message = (
                f"the settings of job {upgraded.replaces}, which the upgrade stopped, are not in "
                f"{journal.journal_path(name)}: go back with `reasoner submit --config FILE --savepoint "
                f"{upgraded.savepoint}` and its settings"
            )
            raise CommandFailed(message)
        return cls(name, rest, upgraded, before)

    def faults(self, *, count_twice: bool) -> list[str]:
        """Return why the job cannot go back, a sentence each with the next step."""
        faults = []
        if self.before.version != package_version():
            faults.append(
                f"version {package_version()} of metric-reasoner is installed, expected {self.before.version}, which "
                f"the job had before: install it, then repeat this command"
            )
        savepoint = local_path(self.upgraded.savepoint)
        if savepoint and not savepoint.exists():
            faults.append(f"the savepoint {self.upgraded.savepoint} is not there any more: restore it from a backup")
        active = {job.job_id for job in self.rest.overview() if job.name == self.name and job.is_active}
        others = sorted(active - {self.upgraded.job_id})
        if others:
            faults.append(f"job {', '.join(others)} runs under this name and is not of the upgrade: stop it first")
        return [*faults, *([] if count_twice else self._counted_twice())]

    def _counted_twice(self) -> list[str]:
        """Say what the tables would count twice: what the upgraded job has committed since the savepoint."""
        job_id = self.upgraded.job_id
        done = self.rest.completed_checkpoints(job_id) if job_id in self.rest.jobs() else None
        if done == 0:
            return []
        found = f"{done} checkpoints" if done else "an unknown number of checkpoints"
        file = _kept_settings(self.name, self.before)
        return [
            f"the upgraded job has committed {found} since {self.upgraded.at}, which the tables would count twice; "
            f"`reasoner upgrade --config {file} --target {self.rest.url}` goes on from now with the settings of "
            "before, and --count-twice goes back all the same"
        ]

    def run(self, *, count_twice: bool) -> str:
        """Cancel the upgraded job, go back to savepoint and settings of before, and return the id of the new job.

        Raises CommandFailed with all that is missing, before anything is stopped.
        """
        refuse(self.name, self.faults(count_twice=count_twice))
        asked = Submission(self.before.job, _kept_settings(self.name, self.before), self.upgraded.savepoint)
        config = asked.check()
        if JobInfo(self.upgraded.job_id, "", self.rest.jobs().get(self.upgraded.job_id, "CANCELED"), 0, 0).is_active:
            self.rest.cancel(self.upgraded.job_id, deadline_s=CANCEL_DEADLINE_S)
        asked.preflight(self.rest)
        end_orphans(config, self.rest)
        job_id = asked.start(self.rest.url)
        _wait_until_it_works(config, self.rest, job_id)
        return job_id


def _kept_settings(name: str, start: journal.Start) -> Path:
    """Write the settings of a start into a file beside the journal, and return it."""
    file = journal.journal_path(name).with_name(f"{name}-{start.job_id[:8]}.yaml")
    file.touch(mode=0o600)
    file.write_text(start.settings)
    return file
