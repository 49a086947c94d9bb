"""`reasoner bench`: throughput and memory of the shipped job on this machine."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from reasoner.bench.job import BenchInput, bench_job
from reasoner.bench.quiet import bench_quiet, svg
from reasoner.bench.shapes import bench_shapes
from reasoner.bench.templates import bench_templates
from reasoner.errors import WrongUse
from reasoner.evaluate.result import Result
from reasoner.recordings.message import Message
from reasoner.recordings.read import BadLines, read
from reasoner.recordings.reshape import denser
from reasoner.stack.environment import checkout
from reasoner.traffic.spans import SpanProfile, spans
from state_schemas.telemetry.spans import SpanColumns
from udfs.otlp.decoder import SpanDecoder

app = typer.Typer(no_args_is_help=True, help="Throughput and memory on this machine.")

LEAN = SpanProfile()
DATA = checkout().parent / "shared" / "data"
STEP_MS = 20  # of event time for each message: 1,000 messages are 20 s


@app.command()
def job(
    spans_wanted: Annotated[
        int, typer.Option("--spans", min=1_000, help="Whole thousands; with --input at least so many.")
    ] = 20_000_000,
    recorded: Annotated[
        Path | None, typer.Option("--input", help="Recorded traces, as dense as it takes, instead of the lean profile.")
    ] = None,
    services: Annotated[int, typer.Option(min=1, help="Of the generated profile.")] = LEAN.services,
    hosts: Annotated[int, typer.Option(min=1, help="Of each service.")] = LEAN.hosts,
    operations: Annotated[int, typer.Option(min=1, help="Of each service.")] = LEAN.operations,
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
    if recorded is None:
        traffic = replace(LEAN, services=services, hosts=hosts, operations=operations)
        given = _generated(traffic, spans_wanted, rate, seed)
    else:
        given = _recorded(recorded, spans_wanted)
    _print(bench_job(given, profile=profile, report=_say), as_json)


def _generated(profile: SpanProfile, spans_wanted: int, rate: int | None, seed: int) -> BenchInput:
    messages, rest = divmod(spans_wanted, profile.spans_per_message)
    if rest:
        message = f"--spans {spans_wanted}: expected a multiple of {profile.spans_per_message}"
        raise WrongUse(message)
    step_ms = STEP_MS if rate is None else 1_000 * profile.spans_per_message // rate
    # Now, so that retention and the bound on the future do not touch it.
    start_ms = int(time.time() * 1000) - (messages * step_ms if rate is None else 0)
    size = f"{profile.services} services x {profile.hosts} hosts x {profile.operations} operations"
    name = "lean" if profile == LEAN else size
    pace = "" if rate is None else f", {rate:,} spans/s sent"
    sent = spans(profile, messages, seed, start_ms, step_ms)
    return BenchInput(f"{name}{pace}", sent, spans_wanted, profile.services, paced=rate is not None)


def _recorded(folder: Path, spans_wanted: int) -> BenchInput:
    kept = [message for message in read([folder], BadLines(), as_protobuf=True) if message.topic_kind == "traces"]
    count = _span_count(kept)
    if not count:
        message = f"{folder} holds no spans; expected what the Collector's file exporter writes"
        raise WrongUse(message)
    times = -(-spans_wanted // count)
    setting = f"recorded {folder.name}, {count} spans, {times} times as dense"
    return BenchInput(setting, denser(kept, times), times * count)


@app.command()
def quiet(
    hours: Annotated[int, typer.Option(min=1, help="Of generated normal traffic.")] = 24,
    seeds: Annotated[int, typer.Option(min=1, help="Fleets, one environment each.")] = 5,
    picture: Annotated[Path | None, typer.Option("--svg", help="Detection rate by size, as a picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, last.")] = False,
) -> None:
    """False alarms a day on normal traffic, and how many of 200 planted slow-downs are found, how soon."""
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
    _print(bench_shapes(hours, seeds, _say), as_json)


@app.command()
def templates(
    loghub: Annotated[Path, typer.Option(help="Loghub's samples.")] = DATA / "loghub-2k",
    recorded: Annotated[Path, typer.Option(help="A recording with logs.")] = DATA / "nezha-trainticket" / "2023-01-29",
    long_lines: Annotated[int, typer.Option("--long", min=10_000, help="Lines of the long run.")] = 5_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, last.")] = False,
) -> None:
    """Log lines masked and named a second on one core, beside Drain3; and whether that lasts."""
    _print(bench_templates(loghub, recorded, long_lines, _say), as_json)


def _print(result: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.as_json()))
        return
    for name, value in result.scores.items():
        print(f"{name:24} {value:,.6g}")
    for row in result.detail:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


def _span_count(messages: list[Message]) -> int:
    decoder, count = SpanDecoder(), 0
    for message in messages:
        decoded = decoder.decode(message.value)
        assert isinstance(decoded, SpanColumns), "a recorded message cannot be decoded"
        count += len(decoded.start_ns)
    return count


def _say(line: str) -> None:
    print(line, file=sys.stderr)
