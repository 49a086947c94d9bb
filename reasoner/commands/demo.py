"""`reasoner demo`: plant an incident, run the real job, and check both sinks."""

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from reasoner.clients import lake
from reasoner.commands.shared import print_table
from reasoner.errors import CommandFailed
from reasoner.extras import require
from reasoner.folders import run_folder
from reasoner.runs import demo
from reasoner.stack.running import RunningStack, running
from reasoner.stack.settings import StackSettings, free_ports
from state_schemas.contracts.insight import Insight

app = typer.Typer(help="Plant an incident in the telemetry of a small shop and check that the job finds it.")


@app.command()
def demo_command(
    seed: Annotated[int, typer.Option(envvar="DEMO_SEED", min=0, hidden=True)] = 5,
    incident: Annotated[Literal["planted", "none"], typer.Option(envvar="DEMO_INCIDENT", hidden=True)] = "planted",
    keep: Annotated[bool, typer.Option(envvar="DEMO_KEEP", hidden=True)] = False,
) -> None:
    """Plant an incident in the telemetry of a small shop and check that the job finds it.

    The telemetry passes through real Kafka, Flink and Iceberg, which are started for the demo.

    Variables: DEMO_SEED=N selects the incident (default: 5), DEMO_INCIDENT=none plants none, DEMO_KEEP=1 keeps the
    stack.

    Example: DEMO_SEED=3 reasoner demo

    Exit codes: 0 exactly the planted incident is in the topic and in the table, 1 it is not, 2 wrong use.
    """
    require("job", "reasoner demo")
    console = Console()
    plan = demo.plan(seed, incident == "planted", int(time.time() * 1000))
    console.print(
        f"seed {seed}: " + (f"planted: {demo.describe(plan.incident)}" if plan.incident else "nothing planted")
    )
    kept = run_folder() / "demo"
    with nullcontext(str(kept)) if keep else tempfile.TemporaryDirectory(prefix="reasoner-demo-") as name:
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        settings = StackSettings(folder=folder / "stack").with_auto_ports()
        with running(settings, ["kafka"], report=console.print, keep=keep) as stack:
            _run(console, stack, folder, plan)
            if keep:
                where = stack.settings.kafka_bootstrap
                console.print(f"kept: Kafka at {where}; `reasoner stack down --folder {folder / 'stack'}`")


def _run(console: Console, stack: RunningStack, folder: Path, plan: demo.DemoPlan) -> None:
    started_s = time.monotonic()
    job = demo.config(stack.settings.kafka_bootstrap, folder, free_ports(1)[0])
    demo.prepare(job)

    def show(insight: Insight) -> None:
        numbers = "  ".join(f"{name}={value:g}" for name, value in insight.measures.items())
        waited_s = time.monotonic() - started_s
        console.print(f"[bold]{waited_s:5.1f} s  {insight.status:8}[/] {insight.title}\n                  {numbers}")

    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task("12 minutes of shop telemetry through Kafka and the job", total=demo.DURATION_MS)

        def progress(timestamp_ms: int) -> None:
            bars.update(task, completed=timestamp_ms - plan.start_ms)

        topic = demo.run(job, folder, plan, progress, show)
        bars.update(task, completed=demo.DURATION_MS)
    table = demo.in_table(job)
    console.print("lake.insights.insights: last revisions")
    print_table(("status", "kind", "service", "title"), ((i.status, i.kind, i.service, i.title) for i in table))
    spans = lake.read(job.lake, "latency_rollups", row_filter="dimension = 'service' and resolution_s = 60")
    console.print(f"latency_rollups: {spans.num_rows} service rows a minute, {sum(spans['count'].to_pylist())} spans")
    found = demo.faults(plan, topic, table)
    if found:
        raise CommandFailed("; ".join(found))
    console.print(
        "exactly the planted incident is in both sinks"
        if plan.incident
        else "no incident was planted and no insight was emitted"
    )
