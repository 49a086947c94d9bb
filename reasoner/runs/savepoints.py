"""Savepoints of a job by its name: taken while it runs, or as it stops; the journal remembers their paths."""

from contextlib import suppress
from typing import Any, Final

import yaml

from reasoner.clients.flink_rest import FlinkRest, JobInfo, NoAnswer
from reasoner.errors import CommandFailed
from reasoner.runs import journal, operator_owned
from reasoner.waiting import wait_until
from state_schemas.contracts.settings import Kafka

DEADLINE_S: Final = 600.0
START_DEADLINE_S: Final = 120.0


def take(name: str, target: str, folder: str) -> str:
    """Take a savepoint of the job and return its path.

    folder: "" takes `engine.checkpoint_dir` of the job where this machine has started it, else that of the cluster.
    """
    rest = FlinkRest.at(target)
    job = ready(rest, name)
    journal.check(name)
    path = rest.savepoint(job.job_id, folder or _folder(rest, job), deadline_s=DEADLINE_S)
    journal.record(name, journal.Savepoint(journal.now(), rest.url, job.job_id, path))
    return path


def stop(name: str, target: str, folder: str, *, drain: bool) -> str:
    """Stop the job with a savepoint, wait until it has ended, and return the path. folder: as of `take`.

    drain: end event time first. Raises CommandFailed where windows would be lost, or where Flink's Kubernetes operator
    owns the job, before anything is stopped.
    """
    rest = FlinkRest.at(target)
    operator_owned.refuse(rest, "stop")
    job = ready(rest, name)
    if drain:
        _refuse_idle(rest, job)
    journal.check(name)
    path = rest.stop(job.job_id, folder or _folder(rest, job), drain=drain, deadline_s=DEADLINE_S)
    where = (journal.now(), rest.url, job.job_id)
    journal.record(name, journal.Drained(*where) if drain else journal.Savepoint(*where, path, is_end=True))
    ended = f"job {name} has ended after its savepoint {path}; see {rest.url}/#/job/{job.job_id}"
    with suppress(NoAnswer):  # a cluster of one job ends with it
        wait_until(lambda: rest.jobs().get(job.job_id, "FINISHED") == "FINISHED", ended, DEADLINE_S)
    return path


def _refuse_idle(rest: FlinkRest, job: JobInfo) -> None:
    """Raise CommandFailed where a source is idle: Flink's outputs then drop the end of event time."""
    idle_ms = _idle_ms(rest, job)
    sources = rest.idle_ms_of_sources(job.job_id) if idle_ms else {}
    # It would be idle when the drain begins, which is up to a second later.
    idle = {source: ms for source, ms in sources.items() if ms >= idle_ms - 1_000}
    if idle:
        found = ", ".join(f"{source} for {ms / 1000:.0f} s" for source, ms in sorted(idle.items()))
        message = (
            f"{job.name} is not drained: no message has come in {found}, and after kafka.idle_ms ({idle_ms / 1000:.0f} "
            "s) open windows are lost by a drain; drain while telemetry comes, or stop without --drain"
        )
        raise CommandFailed(message)


def _idle_ms(rest: FlinkRest, job: JobInfo) -> int:
    """Return `kafka.idle_ms` of a running job; the default where this machine did not start it."""
    return Kafka.model_validate(_settings(rest, job).get("kafka") or {}).idle_ms


def _folder(rest: FlinkRest, job: JobInfo) -> str:
    """Return `engine.checkpoint_dir` of a running job: Flink itself prefers the folder of the cluster."""
    return str((_settings(rest, job).get("engine") or {}).get("checkpoint_dir") or "")


def _settings(rest: FlinkRest, job: JobInfo) -> dict[str, Any]:
    """Return the settings of a running job as they were written; none where this machine did not start it."""
    texts = (start.settings for start in journal.starts(job.name, rest.url) if start.job_id == job.job_id)
    return yaml.safe_load(next(texts, "")) or {}


def ready(rest: FlinkRest, name: str) -> JobInfo:
    """Return the running job with this name once all its tasks run."""
    job = running(rest, name)
    what = f"all tasks of {name} run; see {rest.url}/#/job/{job.job_id}"
    wait_until(lambda: rest.all_tasks_run(job.job_id), what, START_DEADLINE_S)
    return job


def running(rest: FlinkRest, name: str) -> JobInfo:
    """Return the running job with this name. Raises CommandFailed where there is none, or more than one."""
    found = [job for job in rest.overview() if job.name == name and job.is_active]
    if len(found) == 1:
        return found[0]
    others = sorted({job.name for job in rest.overview() if job.is_active} - {name})
    if found:
        ids = ", ".join(job.job_id for job in found)
        message = f"{len(found)} jobs named {name} run on {rest.url} ({ids}): cancel all but one in the dashboard"
    else:
        there = f"there run {', '.join(others)}" if others else "no job runs there"
        message = f"no job named {name} runs on {rest.url}; {there}; `reasoner jobs` lists them"
    raise CommandFailed(message)
