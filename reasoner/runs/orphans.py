"""Transactions that a job has left open: those that no restore of the job commits any more."""

from typing import NamedTuple

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.transactions import OpenTransaction, abort, of_job
from reasoner.errors import CommandFailed
from state_schemas.contracts.settings import ReaderConfig


class Left(NamedTuple):
    """Open transactions of a job that does not run. why: of the kept ones, for people."""

    orphans: list[OpenTransaction]
    kept: list[OpenTransaction]
    why: str


def left_open(config: ReaderConfig, rest: FlinkRest) -> Left:
    """Divide the open transactions of a job by whether a retained checkpoint or savepoint may still commit them.

    A sink commits a transaction when the checkpoint is complete whose number is in its id. A restore from the last
    complete checkpoint commits those of its number and below, so only later ones are orphans. One that was begun after
    the job had ended is of a job elsewhere.
    """
    checkpoints = of_job(config)
    found = list(checkpoints)
    jobs = [job for job in rest.overview() if job.name == config.name]
    if any(job.is_active for job in jobs):
        return Left([], found, f"job {config.name} runs on {rest.url}: it commits them with its checkpoints")
    if not jobs:
        why = (
            f"{rest.url} knows no job {config.name}, so its last checkpoint is unknown: a restore may need them; they "
            f"end by themselves after {config.kafka.transaction_timeout_ms // 1000} s"
        )
        return Left([], found, why)
    last, newest = jobs[0], rest.last_checkpoint(jobs[0].job_id)
    if newest is None:
        return Left(
            [], found, f"{last.job_id} had no checkpoint: they may be of the job before it, which a restore needs"
        )
    orphans = [one for one in found if checkpoints[one] > newest and one.started_ms <= last.end_ms]
    kept = [one for one in found if one not in orphans]
    return Left(orphans, kept, f"a restore from checkpoint {newest} of {last.job_id} commits them, or another job does")


def abort_orphans(config: ReaderConfig, rest: FlinkRest) -> Left:
    """Abort the orphans; return what was found."""
    left = left_open(config, rest)
    for transaction in left.orphans:
        abort(config.kafka.bootstrap_servers, transaction.transactional_id)
    return left


def end_orphans(config: ReaderConfig, rest: FlinkRest) -> list[str]:
    """Abort the orphans before a job of the name starts; return a note where there was something to say."""
    try:
        ended = len(abort_orphans(config, rest).orphans)
    except CommandFailed as failure:  # an older broker, or no right to list them: the sink's own start ends most
        return [f"open transactions of an earlier job were not looked for: {failure}"]
    return [f"{ended} open transactions of an earlier job were aborted"] if ended else []
