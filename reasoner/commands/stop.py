"""`reasoner stop`: stop a job with a savepoint."""

from typing import Annotated

import typer

from reasoner.commands.shared import JobName, SavepointFolder, Target, say
from reasoner.runs import savepoints

app = typer.Typer(help="Stop a job with a savepoint.")


@app.command()
def stop_command(
    name: JobName = "insights",
    target: Target = "http://127.0.0.1:8081",
    folder: SavepointFolder = "",
    drain: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="End event time first, so that windows become final: only to end for good, while telemetry comes.",
        ),
    ] = False,
) -> None:
    """Stop a job with a savepoint and print the path of the savepoint.

    Everything that was read is written and committed; no transaction stays open. The journal remembers the path, unless
    the job was drained: `reasoner submit --savepoint latest` goes on from it. A drain is refused where a source has
    had no message for `kafka.idle_ms`: Flink would drop its open windows.

    Example: reasoner stop insights --target http://127.0.0.1:8081

    Exit codes: 0 ok, 1 no such job runs, its sources are idle, the savepoint failed, or Flink's Kubernetes operator
    owns the job, 2 wrong use.
    """
    path = savepoints.stop(name, target, folder, drain=drain)
    print(path)
    if not drain:
        say(f"go on with: reasoner submit --config FILE --target {target} --savepoint latest")
