"""`reasoner transactions`: show and end Kafka transactions that a job has left open."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.transactions import OpenTransaction, of_job
from reasoner.commands.shared import Target, group, print_table, say
from reasoner.runs.orphans import abort_orphans
from state_schemas.contracts.settings import ReaderConfig, load

app = group(
    "Show and end Kafka transactions that a job has left open.\n\n"
    "Readers of committed messages see nothing behind the first open one.",
    "reasoner transactions list --config job.yaml",
)

Config = Annotated[Path, typer.Option(help="YAML file of the job.")]


@app.command(name="list")
def list_command(config: Config) -> None:
    """List the open transactions of a job, the oldest first. A running job always has some.

    Example: reasoner transactions list --config job.yaml

    Exit codes: 0 ok, 1 Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    _print(of_job(load(config, ReaderConfig)))


@app.command(name="abort")
def abort_command(config: Config, target: Target = "http://127.0.0.1:8081") -> None:
    """Abort the open transactions of a job that does not run any more, except those that a restore still commits.

    Example: reasoner transactions abort --config job.yaml --target http://127.0.0.1:8081

    Exit codes: 0 ok, 1 Kafka or the cluster cannot be reached, 2 wrong use or wrong settings.
    """
    left = abort_orphans(load(config, ReaderConfig), FlinkRest.at(target))
    _print(left.orphans)
    say(f"{len(left.orphans)} aborted")
    if left.kept:
        say(f"{len(left.kept)} stay open: {left.why}")


def _print(found: Iterable[OpenTransaction]) -> None:
    rows = (
        (
            time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(transaction.started_ms / 1000)),
            ", ".join(transaction.topics),
            transaction.transactional_id,
        )
        for transaction in found
    )
    print_table(("since", "topics", "id"), rows)
