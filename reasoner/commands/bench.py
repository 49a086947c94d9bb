"""`reasoner bench`: throughput and memory of the shipped job on this machine."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from reasoner.errors import WrongUse
from reasoner.evaluate.result import Result
from reasoner.extras import require

app = typer.Typer(no_args_is_help=True, help="Throughput and memory on this machine.")


@app.command()
def job(
    spans_wanted: Annotated[
        int, typer.Option("--spans", min=1_000, help="Whole thousands; with --input at least so many.")
    ] = 20_000_000,
    recorded: Annotated[
        Path | None, typer.Option("--input", help="Recorded traces, as dense as it takes, instead of the lean profile.")
    ] = None,
    services: Annotated[int | None, typer.Option(min=1, help="Of the lean profile, instead of its own.")] = None,
    hosts: Annotated[int | None, typer.Option(min=1, help="Of each service.")] = None,
    operations: Annotated[int | None, typer.Option(min=1, help="Of each service.")] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1_000, max=100_000, help="Spans a second, sent while the job runs (not filled before)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the generated profile.")] = 1,
    profile: Annotated[bool, typer.Option("--profile", help="Say what limits: stages, threads, cores.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, last.")] = False,
) -> None:
    """Spans per second of the whole job in steady state, with broker, catalog and all sinks on this machine.

    Exit code 1 where a count in Iceberg is not exact: then there is no result.
    """
    if recorded is not None and rate is not None:
        message = "--rate is of generated traffic; expected it without --input"
        raise WrongUse(message)
    require("job", "reasoner bench job")
    from reasoner.bench import job_input
    from reasoner.bench.job import bench_job

    if recorded is None:
        lean = job_input.LEAN
        traffic = replace(
            lean,
            services=services or lean.services,
            hosts=hosts or lean.hosts,
            operations=operations or lean.operations,
        )
        given = job_input.generated(traffic, spans_wanted, rate, seed)
    else:
        given = job_input.recorded(recorded, spans_wanted)
    _print(bench_job(given, profile=profile, report=_say), as_json)


@app.command()
def quiet(
    hours: Annotated[int, typer.Option(min=1, help="Of generated normal traffic.")] = 24,
    seeds: Annotated[int, typer.Option(min=1, help="Fleets, one environment each.")] = 5,
    picture: Annotated[Path | None, typer.Option("--svg", help="Detection rate by size, as a picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, last.")] = False,
) -> None:
    """False alarms a day on normal traffic, and how many of 200 planted slow-downs are found, how soon."""
    from reasoner.bench.quiet import bench_quiet, svg

    result = bench_quiet(hours, seeds, _say)
    if picture is not None:
        picture.write_text(svg(result))
    _print(result, as_json)


@app.command()
def effects(
    hours: Annotated[int, typer.Option(min=1, help="Of generated normal traffic.")] = 24,
    seeds: Annotated[int, typer.Option(min=1, help="Fleets, one environment each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, last.")] = False,
) -> None:
    """False alarms a day about lines and calls on normal traffic, and how many of 150 planted stops are found."""
    from reasoner.bench.shapes import bench_shapes

    _print(bench_shapes(hours, seeds, _say), as_json)


@app.command()
def templates(
    loghub: Annotated[Path, typer.Option(help="Loghub's samples.")],
    recorded: Annotated[Path, typer.Option(help="A recording with logs.")],
    long_lines: Annotated[int, typer.Option("--long", min=10_000, help="Lines of the long run.")] = 5_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, last.")] = False,
) -> None:
    """Log lines masked and named a second on one core, beside Drain3; and whether that lasts."""
    require("evaluation", "reasoner bench templates")
    from reasoner.bench.templates import bench_templates

    _print(bench_templates(loghub, recorded, long_lines, _say), as_json)


def _print(result: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.as_json()))
        return
    for name, value in result.scores.items():
        print(f"{name:24} {value:,.6g}")
    for row in result.detail:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
