"""`reasoner jobs`: list the jobs of a Flink cluster."""

import json
import time
from typing import Annotated

import typer

from reasoner.clients.flink_rest import FlinkRest
from reasoner.commands.shared import Target, print_table

app = typer.Typer(help="List the jobs of a Flink cluster.")


@app.command()
def jobs_command(
    target: Target = "http://127.0.0.1:8081",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List the jobs of a Flink cluster, those that have ended too, with state, start and id.

    Example: reasoner jobs --target http://127.0.0.1:8081

    Exit codes: 0 ok, 1 the cluster does not answer, 2 wrong use.
    """
    found = FlinkRest.at(target).overview()
    if as_json:
        for job in found:
            print(json.dumps(job._asdict()))
        return
    rows = (
        (job.name, job.state, time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(job.start_ms / 1000)), job.job_id)
        for job in found
    )
    print_table(("name", "state", "started", "id"), rows)
