"""`reasoner explain`: print one row for each record of a file of OTLP."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from reasoner.errors import CommandFailed, WrongUse

app = typer.Typer(help="Explain what becomes of each log record and each exception of a span.")

FileArgument = Annotated[
    Path,
    typer.Argument(
        help="OTLP/JSON lines, one export request a line, plain, .gz or .zst; or a .bin file with one message.",
        metavar="FILE",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="YAML file of the job with masks and time limits (default: the default settings)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per record.")]


@app.command()
def explain(file: FileArgument, config: Config = None, as_json: AsJson = False) -> None:
    """Print what becomes of each log record and each exception of a span in FILE, in the order of the file.

    Each has its service, severity, pattern and masked line. Rejected records are printed with their number and reason.
    If the file has no Kafka timestamps, the newest event time of a message is taken as its timestamp.

    Example: reasoner explain logs.jsonl.gz --json

    Exit codes: 0 ok, 1 none of the messages is an OTLP request, 2 wrong use or a file that cannot be read.
    """
    from reasoner.runs.explain import Explainer, add_messages, fold_config, json_lines, tables

    explainer = Explainer(fold_config(config))
    unread = add_messages(explainer, file)
    rows = list(explainer.rows())
    for line in json_lines(rows) if as_json else tables(rows):
        sys.stdout.write(line + "\n")
    if unread:
        message = f"{file}:{unread.line}: {unread.reason}; expected OTLP/JSON lines; record it again or cut it there"
        raise WrongUse(message)
    if rows and not explainer.messages_read:
        message = f"{file}: no message of it is OTLP; expected OTLP/JSON, an export request a line, or a .bin of one"
        raise CommandFailed(message)
