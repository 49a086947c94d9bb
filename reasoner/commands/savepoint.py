"""`reasoner savepoint`: take a savepoint of a running job."""

import typer

from reasoner.commands.shared import JobName, SavepointFolder, Target
from reasoner.runs import savepoints

app = typer.Typer(help="Take a savepoint of a running job.")


@app.command()
def savepoint_command(
    name: JobName = "insights", target: Target = "http://127.0.0.1:8081", folder: SavepointFolder = ""
) -> None:
    """Take a savepoint of a running job and print its path; the job continues.

    Example: reasoner savepoint insights --folder s3://bucket/savepoints

    Exit codes: 0 ok, 1 no such job runs or the savepoint failed, 2 wrong use.
    """
    print(savepoints.take(name, target, folder))
