"""`reasoner status`: show how a running job is."""

import time
from pathlib import Path
from typing import Annotated

import typer

from reasoner.commands.shared import Target

app = typer.Typer(help="Show how a running job is.")


@app.command()
def status_command(
    config: Annotated[Path, typer.Option(help="YAML file of the job.")], target: Target = "http://127.0.0.1:8081"
) -> None:
    """Show state, restarts, checkpoints, unread messages and counters of a running job.

    Example: reasoner status --config job.yaml --target http://127.0.0.1:8081

    Exit codes: 0 ok, 1 the job does not run, or the cluster or Kafka does not answer, 2 wrong use or wrong settings.
    """
    from reasoner.clients.flink_rest import FlinkRest
    from reasoner.runs.status import status_lines
    from state_schemas.contracts.settings import ReaderConfig, load

    for line in status_lines(load(config, ReaderConfig), FlinkRest.at(target), int(time.time() * 1000)):
        print(line)
