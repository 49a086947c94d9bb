"""`reasoner submit`: a job and its settings to a Flink cluster, or to a mini-cluster in this terminal."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from reasoner.extras import require
from reasoner.runs.submit import JOBS, check, submit
from reasoner.stack.environment import flink_env

app = typer.Typer(help="Start a job on a Flink cluster.")


@app.command()
def submit_command(
    config: Annotated[Path, typer.Option(help="YAML file, see docs/configuration.md.")],
    job: Annotated[str, typer.Argument(help=f"Of {', '.join(JOBS)}.")] = "insights",
    target: Annotated[str, typer.Option(help="`local`, or the REST address of a cluster.")] = "local",
    savepoint: Annotated[str, typer.Option(help="Go on from this savepoint.")] = "",
) -> None:
    """Print the id of the job; with `--target local` run it here until it ends or Ctrl-C."""
    require("job", "reasoner submit")
    if target != "local":
        print(submit(job, config, target, savepoint))
        return
    check(job, config)
    module = JOBS[job].removesuffix(".py").replace("/", ".")
    done = subprocess.run([sys.executable, "-m", module, "--config", str(config)], env=flink_env(), check=False)
    raise typer.Exit(1 if done.returncode else 0)
