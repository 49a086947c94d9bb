"""`reasoner rollback`: go back from the last upgrade of a job."""

from typing import Annotated

import typer

from reasoner.clients.flink_rest import FlinkRest
from reasoner.commands.shared import By, JobName, Target, way_named

app = typer.Typer(help="Go back from the last upgrade of a job.")


@app.command()
def rollback_command(
    name: JobName = "insights",
    target: Target = "http://127.0.0.1:8081",
    by: By = None,
    count_twice: Annotated[
        bool,
        typer.Option("--count-twice", help="Go back although the tables count twice what the new job has committed."),
    ] = False,
) -> None:
    """Cancel the job that `reasoner upgrade` started, and go back to the savepoint and the settings of before.

    The version of this package that the job had before must be installed. Both are in the journal of this machine.

    Example: reasoner rollback insights --target http://127.0.0.1:8081

    Exit codes: 0 ok, 1 something is missing, or would be counted twice, 2 wrong use.
    """
    from reasoner.runs.upgrade import Rollback

    print(Rollback.of(name, FlinkRest.at(target)).run(count_twice=count_twice, by=way_named(by)))
