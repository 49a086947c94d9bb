"""Upgrade of a running job to other settings or another version of this package, and the way back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs.settings import JobConfig
from reasoner.clients.flink_errors import causes
from reasoner.clients.flink_rest import FlinkRest, JobInfo
from reasoner.clients.state_files import SAVEPOINTS, folders, local_path
from reasoner.errors import CommandFailed
from reasoner.runs import journal, operator_owned, savepoints
from reasoner.runs.orphans import end_orphans
from reasoner.runs.preflight import WHOLE_JOB, Preflight
from reasoner.runs.submit import Submission, package_version, refuse
from reasoner.runs.way import Way, usual_way
from reasoner.waiting import wait_until

WORKS_DEADLINE_S: Final = 240.0  # beside the interval of the first checkpoint: workers compile and restore their state
CANCEL_DEADLINE_S: Final = 120.0


def upgrade(file: Path, rest: FlinkRest, job: str, say: Callable[[str], None], by: Way | None = None) -> str:
    """Stop the running job that the settings name with a savepoint, go on from it with them, and return the new id.

    job: name of the job in JOBS, "" for that of the running one. say: gets the way back, before anything is stopped.
    by: as of a Submission. Returns when the new job has completed a checkpoint. Raises CommandFailed with all faults
    before anything is stopped, or with the reason where the cluster refuses the new job or it does not work; `rollback`
    goes back then.
    """
    config = Submission(job or WHOLE_JOB, file).check()
    operator_owned.refuse(rest, "upgrade")
    running = savepoints.ready(rest, config.name)
    before = next((start for start in journal.starts(config.name, rest.url) if start.job_id == running.job_id), None)
    asked = Submission(job or (before.job if before else WHOLE_JOB), file)
    is_application = rest.is_application()  # it may end with its job, and its next job comes with the next cluster
    way = None if is_application else by or usual_way()
    faults = Preflight(asked.job, config, str(file), rest, way).successor_faults(running.job_id)
    refuse(config.name, [*faults, *_state_faults(config, rest, running.job_id), *_job_faults(asked, before)])
    # Without an entry in the journal the settings of the running job are not known: the new ones say where.
    folder = "" if before else folders(config.engine).get(SAVEPOINTS, "")
    path = savepoints.stop(config.name, rest.url, folder, drain=False)
    if is_application:
        raise ApplicationEnded(config.name, path)
    if before:
        say(f"go back with: reasoner rollback {config.name} --target {rest.url}")
    else:
        say(f"the journal lacks the settings of {running.job_id}: go back by `submit` with them and --savepoint {path}")
    job_id = Submission(asked.job, file, path, by=by).start(rest.url, replaces=running.job_id)
    _wait_until_it_works(config, rest, job_id)
    return job_id


class ApplicationEnded(CommandFailed):
    """The job of an application cluster has ended with a savepoint: who started the cluster can start the next one."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(
            f"{name} has ended with the savepoint {path}, and its application cluster takes no other job: start the "
            f"cluster again with the new settings and `--fromSavepoint {path}` (reasoner stack: "
            f"REASONER_FLINK_SAVEPOINT={path}); with the settings of before and the same savepoint this goes back"
        )


def _state_faults(config: JobConfig, rest: FlinkRest, running_id: str) -> list[str]:
    """Return why the state of the running job does not fit these settings."""
    found, expected = config.engine.max_parallelism, rest.max_parallelism(running_id)
    if found == expected:
        return []
    return [f"engine.max_parallelism is {found}, expected {expected} as in the running job: it divides the state"]


def _job_faults(asked: Submission, before: journal.Start | None) -> list[str]:
    if before is None or asked.job == before.job:
        return []
    return [f"job {before.job} runs under this name, found {asked.job}: all jobs share uids, so stop that one first"]


def _wait_until_it_works(config: JobConfig, rest: FlinkRest, job_id: str) -> None:
    def works() -> bool:
        if not _is_active(rest, job_id) or rest.restarts(job_id):
            reason = causes(rest.failure(job_id))[-1]
            message = f"job {job_id} does not work: {reason}; see {rest.url}/#/job/{job_id}/exceptions"
            raise CommandFailed(message)
        return rest.completed_checkpoints(job_id) > 0

    what = f"job {job_id} has completed a checkpoint; see {rest.url}/#/job/{job_id}"
    wait_until(works, what, WORKS_DEADLINE_S + config.engine.checkpoint_interval_ms / 1000)


def _is_active(rest: FlinkRest, job_id: str) -> bool:
    """Return whether the job runs or will run again; False for one that the cluster does not know."""
    return JobInfo(job_id, "", rest.jobs().get(job_id, "CANCELED"), 0, 0).is_active


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
        operator_owned.refuse(rest, "rollback")
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
        if job_id == journal.REFUSED:
            return []
        done = self.rest.completed_checkpoints(job_id) if job_id in self.rest.jobs() else None
        if done == 0:
            return []
        found = f"{done} checkpoints" if done else "an unknown number of checkpoints"
        settings = f"{self.before.job} --config {self._settings()} --target {self.rest.url}"
        is_active = _is_active(self.rest, job_id)
        on = f"reasoner upgrade {settings}" if is_active else f"reasoner submit {settings} --savepoint latest"
        return [
            f"the upgraded job has committed {found} since {self.upgraded.at}, which the tables would count twice; "
            f"`{on}` goes on from now with the settings of before, and --count-twice goes back all the same"
        ]

    def run(self, *, count_twice: bool, by: Way | None = None) -> str:
        """Cancel the upgraded job, go back to savepoint and settings of before, and return the id of the new job.

        Raises CommandFailed with all that is missing, before anything is stopped.
        """
        job_id, rest = self.upgraded.job_id, self.rest
        asked = Submission(self.before.job, self._settings(), self.upgraded.savepoint, by=by)
        config = asked.check()
        checks = Preflight(asked.job, config, str(asked.file), rest, by or usual_way())
        is_active = _is_active(rest, job_id)
        others = checks.successor_faults(job_id) if is_active else checks.faults()
        refuse(self.name, [*self.faults(count_twice=count_twice), *others])
        if is_active:
            rest.cancel(job_id, deadline_s=CANCEL_DEADLINE_S)
            refuse(self.name, self.faults(count_twice=count_twice))  # a checkpoint may have come in between
        end_orphans(config, rest)
        back = asked.start(rest.url)
        _wait_until_it_works(config, rest, back)
        return back

    def _settings(self) -> Path:
        """Write the settings of the job before into a file beside the journal, and return it."""
        journal.check(self.name)
        file = journal.journal_path(self.name).with_name(f"{self.name}-{self.before.job_id[:8]}.yaml")
        file.touch(mode=0o600)
        file.write_text(self.before.settings)
        return file
