"""`reasoner submit`: start a job on a Flink cluster, or on a mini-cluster in this terminal."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from jobs.graph import JOBS
from reasoner.clients.flink_errors import causes
from reasoner.clients.flink_rest import FlinkRest
from reasoner.commands.shared import By, say, way_named
from reasoner.errors import CommandFailed, WrongUse
from reasoner.extras import require
from reasoner.runs.orphans import end_orphans
from reasoner.runs.submit import Submission
from reasoner.stack.environment import flink_env

app = typer.Typer(help="Start a job on a Flink cluster.")


@app.command()
def submit_command(
    config: Annotated[Path, typer.Option(help="YAML file of the job, see docs/configuration.md.")],
    job: Annotated[str, typer.Argument(help=f"Job to start: {', '.join(JOBS)}.")] = "insights",
    target: Annotated[str, typer.Option(help="`local`, or the REST address of a Flink cluster.")] = "local",
    savepoint: Annotated[str, typer.Option(help="Savepoint from which the job continues: its path, or `latest`.")] = "",
    create: Annotated[
        bool, typer.Option("--create", help="Create the topics and tables that the job writes, where they are missing.")
    ] = False,
    from_start: Annotated[
        bool,
        typer.Option("--from-start", help="Read the topics from their beginning: what the tables have counts twice."),
    ] = False,
    go_on: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="As --savepoint latest where the job has run before, else begin; where it runs, do nothing.",
        ),
    ] = False,
    check_only: Annotated[bool, typer.Option("--check", help="Look at everything, and start nothing.")] = False,
    by: By = None,
    checks: Annotated[
        bool, typer.Option(help="Look first; --no-checks where Kafka or the catalog is reached from the cluster only.")
    ] = True,
) -> None:
    """Submit a job to a Flink cluster and print its id, if it can work there.

    Looked at first: that no job of this name runs, free slots, version, topics, tables. Without a savepoint the job
    reads on where the last checkpoint of its consumer group ended; its models, and windows that were open, are lost.
    With `--target local` it runs in this terminal on a mini-cluster, until it ends or Ctrl-C.

    Example: reasoner submit insights --config job.yaml --target http://127.0.0.1:8081

    Exit codes: 0 ok, 1 the job failed or cannot work on the cluster, 2 wrong use or wrong settings.
    """
    if go_on and (savepoint or from_start or target == "local"):
        message = "found --continue with --savepoint, --from-start or --target local, expected none of them"
        raise WrongUse(message)
    if target == "local":
        require("job", "reasoner submit")
    asked = Submission(job, config, savepoint, from_start, way_named(by))
    if create:
        for line in asked.create():
            say(line)
    if target == "local":
        _run_here(asked, checks)
    rest = FlinkRest.at(target)
    if go_on:
        if running := asked.running_id(rest):
            say(f"note: job {asked.check().name} runs already ({running})")
            return
        asked = asked.continued(rest)
    asked.savepoint_path(rest)
    if checks:
        for note in asked.preflight(rest):
            say(f"note: {note}")
    if check_only:
        return
    for note in end_orphans(asked.check(), rest) if checks else []:
        say(f"note: {note}")
    print(asked.start(target))


def _run_here(asked: Submission, checks: bool) -> NoReturn:
    """Run the job on a mini-cluster in this terminal, and exit as it does."""
    asked.check()
    if asked.savepoint:
        message = "found --savepoint with --target local, expected the REST address of a cluster"
        raise WrongUse(message)
    if checks:
        asked.preflight_here()
    environment = flink_env()
    with tempfile.NamedTemporaryFile(prefix="reasoner-submit-", suffix=".log", delete=False) as output:
        log = Path(output.name)
        say(f"the job runs until Ctrl-C; its output is in {log}")
        # -P: a package `jobs` in the working directory is not imported in place of this one.
        command = [sys.executable, "-P", "-m", "jobs.insights", *asked.arguments()]
        done = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False)
    if done.returncode:
        reason = causes(log.read_text(errors="replace"))[-1]
        message = f"the job has ended with code {done.returncode}: {reason}; see {log}"
        raise CommandFailed(message)
    raise typer.Exit
