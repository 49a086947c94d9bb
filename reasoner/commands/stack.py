"""`reasoner stack`: components named on the command line in, their state on the terminal out."""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from reasoner.errors import CommandFailed
from reasoner.stack.component import component_log
from reasoner.stack.postgres import postgres_programs
from reasoner.stack.running import COMPONENTS, components_of
from reasoner.stack.settings import StackSettings
from reasoner.stack.supervisor import Supervisor

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Kafka, PostgreSQL and Flink as native processes on this machine: no Docker. Data and logs lie in one folder.",
)

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[COMPONENT]...", help=f"Of {', '.join(COMPONENTS)}; all when none is named.", show_default=False
    ),
]
Folder = Annotated[Path | None, typer.Option(help="Where data and logs lie.  [default: .run]", show_default=False)]
PortFlag = Annotated[str | None, typer.Option(metavar="PORT", help="A number, or `auto`.", show_default=False)]


@app.command()
def up(
    components: Names = None,
    folder: Folder = None,
    kafka_port: PortFlag = None,
    kafka_controller_port: PortFlag = None,
    postgres_port: PortFlag = None,
    flink_rest_port: PortFlag = None,
    flink_rpc_port: PortFlag = None,
    flink_taskmanagers: Annotated[int | None, typer.Option(help="Worker processes.  [default: 2]")] = None,
    flink_slots: Annotated[int | None, typer.Option(help="Slots of each worker.  [default: 2]")] = None,
) -> None:
    """Start components and wait until they are healthy; those that run already are left alone.

    Each flag is also a variable: --kafka-port is REASONER_KAFKA_PORT. More settings: heap and memory sizes.
    """
    flags: dict[str, Any] = {name: value for name, value in locals().items() if name != "components"}
    settings = StackSettings.load(flags)
    supervisor = Supervisor(settings.folder, report=print)
    settings = settings.model_copy(update=supervisor.running_ports()).resolved()
    supervisor.up(components_of(settings, components or _available()))


@app.command()
def status(
    components: Names = None,
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Say what runs and where. Exit code 1 when a component that was started is dead or does not answer."""
    supervisor, settings = _existing(folder)
    found = supervisor.status(components_of(settings, components or COMPONENTS))
    if as_json:
        print(json.dumps({"folder": str(settings.folder), "components": [dataclasses.asdict(one) for one in found]}))
    else:
        table = Table("component", "state", "process", "where", box=None)
        for one in found:
            where = one.reason or ", ".join(one.endpoints.values())
            table.add_row(one.name, one.state, str(one.pid or ""), where)
        Console().print(table)
    if any(one.state in {"dead", "starting"} for one in found):
        raise typer.Exit(1)


@app.command()
def logs(
    components: Names = None,
    folder: Folder = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each log.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print the end of the components' logs."""
    _, settings = _existing(folder)
    paths = [component_log(component) for component in components_of(settings, components or COMPONENTS)]
    there = [str(path) for path in paths if path.exists()]
    if not there:
        message = f"no log in {settings.folder}: nothing was started there; start with `reasoner stack up`"
        raise CommandFailed(message)
    try:
        subprocess.run(["tail", "-n", str(lines), *(["-F"] if follow else []), *there], check=False)
    except KeyboardInterrupt:
        return


@app.command()
def down(components: Names = None, folder: Folder = None) -> None:
    """End what `up` started, and nothing else. Data and logs stay."""
    supervisor, settings = _existing(folder)
    if not components:
        supervisor.down()
        return
    supervisor.down([component.name for component in components_of(settings, components)])


def _existing(folder: Path | None) -> tuple[Supervisor, StackSettings]:
    """The supervisor of the folder, and the settings with which its components run."""
    settings = StackSettings.load({"folder": folder})
    supervisor = Supervisor(settings.folder, report=print)
    workers = [name for name in supervisor.recorded_names() if name.startswith("flink-taskmanager-")]
    counted = {"flink_taskmanagers": max(int(name.rpartition("-")[2]) for name in workers)} if workers else {}
    return supervisor, settings.model_copy(update={**supervisor.running_ports(), **counted})


def _available() -> list[str]:
    """All components, without PostgreSQL where it is not installed: nobody asked for it by name."""
    if postgres_programs() is not None:
        return list(COMPONENTS)
    print("postgres: not installed, left out (apt-get install postgresql)")
    return [name for name in COMPONENTS if name != "postgres"]
