"""`reasoner stack`: start, inspect and stop the components on this machine."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from reasoner.clients.flink_rest import FlinkRest, NoAnswer
from reasoner.commands.shared import group, print_table
from reasoner.errors import CommandFailed
from reasoner.stack.postgres import postgres_programs
from reasoner.stack.running import COMPONENTS, OPTIONAL, components_of, settled
from reasoner.stack.settings import StackSettings
from reasoner.stack.supervisor import Supervisor

app = group(
    "Run Kafka, PostgreSQL and Flink as native processes on this machine, without Docker.\n\n"
    "Data and logs are in one folder.",
    "reasoner stack up kafka postgres",
)

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[COMPONENT]...",
        help=f"Components: {', '.join(COMPONENTS)} (default: these); {', '.join(OPTIONAL)} on request.",
        show_default=False,
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of data and logs (default: .run of the checkout, else ~/.local/state/metric-reasoner/run).",
        show_default=False,
    ),
]


def _port(default: int) -> Any:
    return typer.Option(metavar="PORT", help=f"A number or `auto` (default: {default}).")


@app.command()
def up(
    components: Names = None,
    also: Annotated[str, typer.Option("--with", help="Further components, separated by commas.")] = "",
    folder: Folder = None,
    kafka_port: Annotated[str | None, _port(9092)] = None,
    kafka_controller_port: Annotated[str | None, _port(9093)] = None,
    postgres_port: Annotated[str | None, _port(5433)] = None,
    s3_port: Annotated[str | None, _port(7070)] = None,
    redis_port: Annotated[str | None, _port(6380)] = None,
    flink_rest_port: Annotated[str | None, _port(8081)] = None,
    flink_rpc_port: Annotated[str | None, _port(6123)] = None,
    prometheus_port: Annotated[str | None, _port(9090)] = None,
    alertmanager_port: Annotated[str | None, _port(9094)] = None,
    flink_taskmanagers: Annotated[int | None, typer.Option(help="Worker processes (default: 1).")] = None,
    flink_slots: Annotated[int | None, typer.Option(help="Slots of each worker (default: 2).")] = None,
) -> None:
    """Start components and wait until they are ready.

    Components that already run stay as they are. Each option has a variable: --kafka-port is REASONER_KAFKA_PORT. Heap
    and memory sizes have variables only.

    Example: reasoner stack up kafka flink --kafka-port auto

    Exit codes: 0 ok, 1 a component did not become ready, 2 wrong use.
    """
    flags: dict[str, Any] = {name: value for name, value in locals().items() if name not in {"components", "also"}}
    settings = StackSettings.load(flags)
    supervisor = Supervisor(settings.folder, report=print)
    settings = settled(settings, supervisor)
    further = [name.strip() for name in also.split(",") if name.strip()]
    supervisor.up(components_of(settings, [*(components or _available()), *further]))


@app.command()
def status(
    components: Names = None,
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Show the state, process and address of each component.

    Example: reasoner stack status --json

    Exit codes: 0 ok, 1 a component that was started is dead or does not answer, 2 wrong use.
    """
    supervisor, settings = _existing(folder)
    found = supervisor.status(components_of(settings, components or _started(supervisor)))
    if as_json:
        print(json.dumps({"folder": str(settings.folder), "components": [asdict(entry) for entry in found]}))
    else:
        rows = ((e.name, e.state, str(e.pid or ""), e.reason or ", ".join(e.endpoints.values())) for e in found)
        print(f"folder: {settings.folder}")
        print_table(("component", "state", "process", "where"), rows)
    if any(entry.state in {"dead", "starting"} for entry in found):
        raise typer.Exit(1)


@app.command()
def logs(
    components: Names = None,
    folder: Folder = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each log to print.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until Ctrl-C.")] = False,
) -> None:
    """Print the last lines of the logs of components.

    Example: reasoner stack logs flink --follow

    Exit codes: 0 ok, 1 there is no log, 2 wrong use.
    """
    supervisor, settings = _existing(folder)
    paths = [component.log for component in components_of(settings, components or _started(supervisor))]
    there = [str(path) for path in paths if path.exists()]
    if not there:
        message = f"no log in {settings.folder}: nothing was started there; start with `reasoner stack up`"
        raise CommandFailed(message)
    try:
        subprocess.run(["tail", "-n", str(lines), *(["-F"] if follow else []), *there], check=False)
    except KeyboardInterrupt:
        return


@app.command()
def down(
    components: Names = None,
    folder: Folder = None,
    force: Annotated[bool, typer.Option("--force", help="Stop them although a job runs on them.")] = False,
) -> None:
    """Stop components that `up` started, unless a job runs on them. Data and logs are kept.

    Other processes are not touched.

    Example: reasoner stack down kafka

    Exit codes: 0 ok, 1 a job runs, or another `reasoner stack` command, 2 wrong use.
    """
    supervisor, settings = _existing(folder)
    if not supervisor.recorded_names():
        print(f"nothing was started in {settings.folder}; --folder names the folder of another stack")
        return
    if not force and supervisor.record("flink-jobmanager") is not None:
        refuse_running_jobs(FlinkRest(settings.flink_rest_url))
    supervisor.down([component.name for component in components_of(settings, components)] if components else None)


def refuse_running_jobs(rest: FlinkRest) -> None:
    """Raise CommandFailed where a job runs: it would end without a savepoint and with an open transaction."""
    try:
        names = sorted({job.name for job in rest.overview() if job.is_active})
    except NoAnswer:
        return
    if names:
        message = (
            f"{', '.join(names)} runs on {rest.url}: `reasoner stop {names[0]} --target {rest.url}` stops it with a "
            "savepoint; --force stops the components all the same"
        )
        raise CommandFailed(message)


def _existing(folder: Path | None) -> tuple[Supervisor, StackSettings]:
    """Return the supervisor of the folder and the settings with which its components run."""
    settings = StackSettings.load({"folder": folder})
    supervisor = Supervisor(settings.folder, report=print)
    workers = [name for name in supervisor.recorded_names() if name.startswith("flink-taskmanager-")]
    counted = {"flink_taskmanagers": max(int(name.rpartition("-")[2]) for name in workers)} if workers else {}
    return supervisor, settings.model_copy(update={**supervisor.running_ports(), **counted})


def _started(supervisor: Supervisor) -> list[str]:
    """Return the components of every stack, and those on request of which one was started in the folder."""
    recorded = supervisor.recorded_names()
    return [*COMPONENTS, *(name for name in OPTIONAL if any(found.split("-")[0] == name for found in recorded))]


def _available() -> list[str]:
    """Return all components, without PostgreSQL if it is not installed: the user did not name it."""
    if postgres_programs() is not None:
        return list(COMPONENTS)
    print("postgres: not installed, left out (apt-get install postgresql)")
    return [name for name in COMPONENTS if name != "postgres"]
