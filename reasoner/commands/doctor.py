"""`reasoner doctor`: say what is right and wrong about a job, a line each."""

import time
from pathlib import Path
from typing import Annotated

import typer

from reasoner.commands.shared import Target
from reasoner.extras import require

app = typer.Typer(help="Say what is right and wrong about a job, its topics and their messages.")


@app.command()
def doctor_command(
    config: Annotated[Path, typer.Option(help="YAML file of the job.")], target: Target = "http://127.0.0.1:8081"
) -> None:
    """Look at the cluster, topics, tables and the last messages of a job, and print a line for each; change nothing.

    Messages: whether they are OTLP (else what they are), how old their records are, clocks that are ahead.

    Example: reasoner doctor --config job.yaml --target http://127.0.0.1:8081

    Exit codes: 0 no fault, 1 at least one fault, 2 wrong use or wrong settings.
    """
    require("job", "reasoner doctor")
    from jobs.settings import load
    from reasoner.clients.flink_rest import FlinkRest
    from reasoner.runs.doctor import Doctor

    doctor = Doctor(load(config), str(config), FlinkRest.at(target), int(time.time() * 1000))
    has_fault = False
    for finding in doctor.findings():
        has_fault |= finding.level == "fault"
        print(f"{finding.level:5}  {finding.text}")
    raise typer.Exit(1 if has_fault else 0)
