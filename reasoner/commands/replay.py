"""`reasoner replay`: print the insights of recordings as JSON lines."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from reasoner.commands.shared import rules_path, say
from reasoner.errors import CommandFailed
from reasoner.extras import require
from state_schemas.contracts.insight import to_json

app = typer.Typer(help="Replay recordings of the Collector's file exporter through the job.")


@app.command()
def replay(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders of OTLP/JSON lines, plain, .gz or .zst.")],
    engine: Annotated[
        Literal["local", "flink"], typer.Option(help="`local`: this process; `flink`: a mini-cluster.")
    ] = "local",
    parallelism: Annotated[int, typer.Option(min=1, max=64, help="Parallelism of the Flink job.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the lines to this file instead of standard output.")] = None,
    all_revisions: Annotated[bool, typer.Option(help="Print every revision, not only the last ones.")] = False,
    rules: Annotated[
        Path | None,
        typer.Option(parser=rules_path, metavar="RULES", help="File or folder of sequence rules, or `shipped`."),
    ] = None,
) -> None:
    """Replay recordings of the Collector's file exporter and print their insights as JSON lines.

    The lines are in a fixed order; they are the same on both engines and at any parallelism.

    Example: reasoner replay recordings/ --rules rules/ --engine flink

    Exit codes: 0 ok, 1 lines of the recording could not be read (reported on standard error), 2 wrong use.
    """
    if engine == "flink":
        require("job", "reasoner replay --engine flink")
    from reasoner.recordings.read import BadLines
    from reasoner.runs.replay import ReplayOptions, replay_flink, replay_local

    bad = BadLines()
    options = ReplayOptions(all_revisions, rules)
    if engine == "local":
        insights = replay_local(paths, bad, options)
    else:
        insights = replay_flink(paths, bad, say, options, parallelism=parallelism)
    lines = b"".join(to_json(insight) + b"\n" for insight in insights)
    if out:
        out.write_bytes(lines)
    else:
        sys.stdout.buffer.write(lines)
    for example in bad.examples:
        say(f"{example.file}:{example.line}: {example.reason}")
    if bad.dropped:
        message = (
            f"{bad.dropped} lines could not be read; expected files of the Collector's file exporter: OTLP/JSON lines, "
            "or protobuf behind its length"
        )
        raise CommandFailed(message)
