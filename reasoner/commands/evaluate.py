"""`reasoner evaluate`: score detection on recordings with known truth."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from reasoner.commands.shared import ResultAsJson, group, print_result, rules_path
from reasoner.extras import require

app = group("Score detection on public data sets with known truth.", "reasoner evaluate nezha --data nezha/ --json")

Data = Annotated[Path, typer.Option(help="Folder of the data set.")]
Dump = Annotated[Path | None, typer.Option(help="Write the evaluated OTLP to this folder; `reasoner replay` reads it.")]


@app.command(name="nezha")
def nezha_command(
    data: Data,
    as_json: ResultAsJson = False,
    rechunk: Annotated[
        Literal["none", "pod"], typer.Option(help="`pod`: send the spans of each pod in separate messages.")
    ] = "none",
    shift_ms: Annotated[int, typer.Option(help="Move all times by this many ms, so that windows begin elsewhere.")] = 0,
    dump_otlp: Dump = None,
) -> None:
    """Score the detection of the TrainTicket faults that the Nezha authors recorded.

    Prints recall, precision and false alarms per hour. A fault is found at the faulty service or at a direct caller.

    Example: reasoner evaluate nezha --data nezha/ --rechunk pod

    Exit codes: 0 ok, 2 wrong use.
    """
    from reasoner.evaluate import nezha

    print_result(nezha.evaluate(data, rechunk == "pod", shift_ms, dump_otlp), as_json)


@app.command(name="visible")
def visible_command(
    data: Data,
    as_json: ResultAsJson = False,
    report: Annotated[Path | None, typer.Option(help="Write the table to this Markdown file.")] = None,
) -> None:
    """Show in which signal each TrainTicket fault is visible at all, and which are found.

    Example: reasoner evaluate visible --data nezha/ --report visible.md

    Exit codes: 0 ok, 2 wrong use.
    """
    from reasoner.evaluate import visible

    result = visible.evaluate(data)
    if report is not None:
        report.write_text(visible.markdown(result))
    print_result(result, as_json)


@app.command(name="rules")
def rules_command(
    data: Data,
    as_json: ResultAsJson = False,
    rules: Annotated[
        Path | None, typer.Option(parser=rules_path, metavar="RULES", help="Rules instead of the shipped ones.")
    ] = None,
) -> None:
    """Score sequence rules on faults that the Nezha authors recorded: matches, right ones, and false ones an hour.

    Example: reasoner evaluate rules --data nezha/

    Exit codes: 0 ok, 2 wrong use or rules with faults.
    """
    from jobs.shipped import SHIPPED
    from reasoner.evaluate.rules import evaluate

    print_result(evaluate(data, rules or SHIPPED), as_json)


@app.command(name="loghub")
def loghub_command(data: Data, as_json: ResultAsJson = False) -> None:
    """Score the grouping of log lines into events, with Drain3 on the same lines.

    Also scores whether the ten most frequent patterns are the ten most frequent events.

    Example: reasoner evaluate loghub --data loghub/

    Exit codes: 0 ok, 2 wrong use.
    """
    require("evaluation", "reasoner evaluate loghub")
    from reasoner.evaluate import loghub

    print_result(loghub.evaluate(data), as_json)
