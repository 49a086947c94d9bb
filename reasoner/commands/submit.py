"""`reasoner submit`: start a job on a Flink cluster, or on a mini-cluster in this terminal."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs.graph import JOBS
from reasoner.extras import require
from reasoner.runs.submit import check, submit
from reasoner.stack.environment import flink_env

app = typer.Typer(help="Start a job on a Flink cluster.")


@app.command()
def submit_command(
    config: Annotated[Path, typer.Option(help="YAML file of the job, see docs/configuration.md.")],
    job: Annotated[str, typer.Argument(help=f"Job to start: {', '.join(JOBS)}.")] = "insights",
    target: Annotated[str, typer.Option(help="`local`, or the REST address of a Flink cluster.")] = "local",
    savepoint: Annotated[str, typer.Option(help="Savepoint from which the job continues.")] = "",
) -> None:
    """Submit a job to a Flink cluster and print its id.

    With `--target local` the job runs in this terminal on a mini-cluster, until it ends or Ctrl-C.

    Example: reasoner submit insights --config job.yaml --target http://127.0.0.1:8081

    Exit codes: 0 ok, 1 the job failed or the cluster did not take it, 2 wrong use or wrong settings.
    """
    require("job", "reasoner submit")
    if target != "local":
        print(submit(job, config, target, savepoint))
        return
    check(job, config)
    command = [sys.executable, "-m", "jobs.insights", "--config", str(config), "--job", job]
    done = subprocess.run(command, env=flink_env(), check=False)
    raise typer.Exit(1 if done.returncode else 0)
