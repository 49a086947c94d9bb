"""`reasoner upgrade`: go on with other settings or another version."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.graph import JOBS
from reasoner.clients.flink_rest import FlinkRest
from reasoner.commands.shared import By, Target, say, way_named

app = typer.Typer(help="Go on with other settings, or with another version of this package.")


@app.command()
def upgrade_command(
    config: Annotated[Path, typer.Option(help="YAML file of the new settings; its `name` is that of the running job.")],
    job: Annotated[
        str, typer.Argument(help=f"Job to start: {', '.join(JOBS)} (default: that which runs).", show_default=False)
    ] = "",
    target: Target = "http://127.0.0.1:8081",
    by: By = None,
) -> None:
    """Stop the running job with a savepoint, go on from it with these settings and the installed version, print its id.

    What would prevent the new job is looked at before anything is stopped. The command returns when the new job has
    completed a checkpoint; where it does not, it says why. The way back is said before.

    Example: reasoner upgrade --config job.yaml --target http://127.0.0.1:8081

    Exit codes: 0 ok, 1 no such job runs, or the new one cannot work, 2 wrong use or wrong settings.
    """
    from reasoner.runs.upgrade import upgrade

    print(upgrade(config, FlinkRest.at(target), job, say, way_named(by)))
