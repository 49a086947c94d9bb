"""`reasoner evaluate`: a folder of recordings with a truth in, scores out."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from reasoner.evaluate.result import Result
from reasoner.extras import require

app = typer.Typer(no_args_is_help=True, help="Detection quality on recordings that nobody here made.")

Data = Annotated[Path, typer.Option(help="Folder of the data set.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, last.")]
Dump = Annotated[Path | None, typer.Option(help="Keep the OTLP that was evaluated here; `replay` reads it.")]


@app.command(name="nezha")
def nezha_command(
    data: Data,
    as_json: AsJson = False,
    rechunk: Annotated[
        Literal["none", "pod"], typer.Option(help="Each pod's spans in messages of their own.")
    ] = "none",
    shift_ms: Annotated[int, typer.Option(help="All times so much later: windows begin elsewhere.")] = 0,
    dump_otlp: Dump = None,
) -> None:
    """TrainTicket faults: what is found at the service or its callers, and what is alarmed without a cause."""
    from reasoner.evaluate import nezha

    _print(nezha.evaluate(data, rechunk == "pod", shift_ms, dump_otlp), as_json)


@app.command(name="visible")
def visible_command(
    data: Data,
    as_json: AsJson = False,
    report: Annotated[Path | None, typer.Option(help="A file for the table, in Markdown.")] = None,
) -> None:
    """TrainTicket faults: in which signal each is visible at all, looking back; and what of it is found."""
    from reasoner.evaluate import visible

    result = visible.evaluate(data)
    if report is not None:
        report.write_text(visible.markdown(result))
    _print(result, as_json)


@app.command(name="loghub")
def loghub_command(data: Data, as_json: AsJson = False) -> None:
    """Log lines: how they are grouped into events, and whether the top ten are those of the truth; Drain3 beside it."""
    require("evaluation", "reasoner evaluate loghub")
    from reasoner.evaluate import loghub

    _print(loghub.evaluate(data), as_json)


def _print(result: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.as_json()))
        return
    console = Console()
    table = Table("score", "value", box=None)
    for name, value in result.scores.items():
        table.add_row(name, f"{value:g}")
    console.print(table)
    for row in result.detail:
        console.print(_line(row))


def _line(row: dict[str, Any]) -> str:
    return "  ".join(f"{key}={value}" for key, value in row.items() if value not in ("", None, 0))
