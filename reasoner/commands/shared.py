"""Parts that several commands share: groups of commands, an option, and printing."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer
from rich.console import Console
from rich.table import Table

from reasoner.errors import WrongUse
from reasoner.evaluate.result import Result

if TYPE_CHECKING:
    from reasoner.runs.way import Way

Target = Annotated[str, typer.Option(help="REST address of the Flink cluster.")]
JobName = Annotated[str, typer.Argument(help="Name of the job, as `name` of its settings.")]
SavepointFolder = Annotated[
    str, typer.Option("--folder", help="Folder of the savepoint (default: that of the job or cluster).")
]
By = Annotated[
    str | None,
    typer.Option(
        metavar="client|rest",
        help="`client`: Flink's command line here runs the program of the job. `rest`: the JobManager does, with this "
        "package in its image (default: client where `reasoner setup` has run, else rest).",
        show_default=False,
    ),
]
ResultAsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object with machine and commit.")]

_WIDTH_OF_A_FILE: Final = 10_000


def group(text: str, example: str) -> typer.Typer:
    """Return the application of a command with sub-commands; without one it prints its help."""
    return typer.Typer(no_args_is_help=True, help=f"{text}\n\nExample: {example}")


def way_named(name: str | None) -> "Way | None":
    """Return how a job is submitted. Raises WrongUse with the ways that there are."""
    if name in (None, "client", "rest"):
        return cast("Way | None", name)
    message = f"found --by {name}, expected client or rest"
    raise WrongUse(message)


def rules_path(text: str) -> Path:
    """Parse a path of rules: `shipped` are those of the package, a folder of this name is `./shipped`."""
    from jobs.shipped import SHIPPED

    return SHIPPED if text == "shipped" else Path(text)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of cells under the names of their columns, as wide as the terminal; a line each in a file or pipe."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # A file or a pipe has no width: cells that are folded at 80 columns could not be read by a program.
    (console if console.is_terminal else Console(width=_WIDTH_OF_A_FILE)).print(table)


def print_result(result: Result, as_json: bool) -> None:
    """Print a result as one JSON object, or as lines: each score, then each case with its fields that have a value."""
    if as_json:
        print(json.dumps(result.as_json()))
        return
    for name, value in result.scores.items():
        print(f"{name:24} {value:,.6g}")
    for row in result.detail:
        print("  ".join(f"{key}={value}" for key, value in row.items() if value not in ("", None)))


def say(line: str) -> None:
    """Print a line for people on standard error, so that standard output holds the result alone."""
    print(line, file=sys.stderr)
