"""`reasoner bench`: throughput and memory of the shipped job on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from reasoner.commands.shared import ResultAsJson, group, print_result, say
from reasoner.errors import WrongUse
from reasoner.extras import require

app = group(
    "Measure throughput, memory and false alarms on this machine.", "reasoner bench job --spans 20000000 --json"
)
Hours = Annotated[int, typer.Option(min=1, help="Hours of generated normal traffic.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of generated fleets, one environment each.")]


@app.command()
def job(
    spans_wanted: Annotated[
        int, typer.Option("--spans", min=1_000, help="Spans to process, a multiple of 1,000; with --input the minimum.")
    ] = 20_000_000,
    recorded: Annotated[
        Path | None,
        typer.Option(
            "--input", help="Folder of recorded traces, repeated until there are enough, instead of generated."
        ),
    ] = None,
    services: Annotated[int | None, typer.Option(min=1, help="Generated services (default: 50).")] = None,
    hosts: Annotated[int | None, typer.Option(min=1, help="Generated hosts of each service (default: 3).")] = None,
    operations: Annotated[
        int | None, typer.Option(min=1, help="Generated operations of each service (default: 20).")
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(
            min=100, max=100_000, help="Spans per second to send while the job runs (default: fill the topic first)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the generated spans.")] = 1,
    default_sizes: Annotated[
        bool, typer.Option("--default-sizes", help="With the default sizes of `stack up` and of a job: their memory.")
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Also print the time of stages and threads.")] = False,
    as_json: ResultAsJson = False,
) -> None:
    """Measure the spans per second of the whole job in steady state.

    The broker, the catalog, the cluster and all sinks run on this machine.

    Example: reasoner bench job --rate 10000 --profile

    Exit codes: 0 ok, 1 the counts in Iceberg are not exact, so there is no result, 2 wrong use.
    """
    if recorded is not None and rate is not None:
        message = "--rate is for generated spans; found it together with --input, expected one of them"
        raise WrongUse(message)
    require("job", "reasoner bench job")
    from reasoner.bench import job_input
    from reasoner.bench.job import DEFAULT, FAST, bench_job
    from reasoner.traffic.spans import SpanProfile

    if recorded is None:
        lean = job_input.LEAN
        sizes = (services or lean.services, hosts or lean.hosts, operations or lean.operations)
        given = job_input.generated(SpanProfile(*sizes), spans_wanted, rate, seed)
    else:
        given = job_input.recorded(recorded, spans_wanted)
    print_result(bench_job(given, DEFAULT if default_sizes else FAST, profile=profile, report=say), as_json)


@app.command()
def quiet(hours: Hours = 24, seeds: Seeds = 5, as_json: ResultAsJson = False) -> None:
    """Measure false latency alarms on normal traffic, and detection of planted slow-downs.

    Prints false alarms per day, and the share and the delay of 200 planted slow-downs that are detected.

    Example: reasoner bench quiet --hours 24

    Exit codes: 0 ok, 2 wrong use.
    """
    from reasoner.bench.quiet import bench_quiet

    print_result(bench_quiet(hours, seeds, say), as_json)


@app.command(name="shapes")
def effects(hours: Hours = 24, seeds: Seeds = 5, as_json: ResultAsJson = False) -> None:
    """Measure false alarms about lines and calls on normal traffic, and detection of planted stops.

    Prints false alarms per day, and the share and the delay of 150 planted stops that are detected.

    Example: reasoner bench shapes --hours 24 --seeds 5

    Exit codes: 0 ok, 2 wrong use.
    """
    from reasoner.bench.shapes import bench_shapes

    print_result(bench_shapes(hours, seeds, say), as_json)


@app.command()
def templates(
    loghub: Annotated[Path, typer.Option(help="Folder of the Loghub samples.")],
    recorded: Annotated[Path, typer.Option(help="Folder of a recording with logs.")],
    long_lines: Annotated[int, typer.Option("--long", min=10_000, help="Lines of the long run.")] = 5_000_000,
    as_json: ResultAsJson = False,
) -> None:
    """Measure how many log lines per second are masked and assigned to patterns on one core.

    Drain3 is measured on the same lines. A long run shows whether the rate stays constant.

    Example: reasoner bench templates --loghub loghub/ --recorded recordings/

    Exit codes: 0 ok, 2 wrong use.
    """
    require("evaluation", "reasoner bench templates")
    from reasoner.bench.templates import bench_templates

    print_result(bench_templates(loghub, recorded, long_lines, say), as_json)


@app.command()
def sequences(
    signals: Annotated[int, typer.Option(min=1_000, help="Signals to process, a multiple of 1,000.")] = 500_000,
    services: Annotated[int, typer.Option(min=1, help="Services, each with a signal a second.")] = 1_000,
    rules_listed: Annotated[
        list[int] | None,
        typer.Option("--rules", min=1, help="Number of rules, repeatable (default: 10, 100, 1000)."),
    ] = None,
    as_json: ResultAsJson = False,
) -> None:
    """Measure the signals per second of sequence rules in Flink, and the state of a service, by the number of rules.

    The job of rules alone reads spans from a real broker; each of them is a signal.

    Example: reasoner bench sequences --rules 1000

    Exit codes: 0 ok, 1 signals were given up, so there is no result, 2 wrong use.
    """
    require("job", "reasoner bench sequences")
    from reasoner.bench.sequences import bench_sequences

    if signals % 1_000:
        message = f"--signals {signals}: expected a multiple of 1,000"
        raise WrongUse(message)
    print_result(bench_sequences(signals, services, rules_listed or (10, 100, 1_000), say), as_json)


@app.command()
def rules(
    rounds: Annotated[int, typer.Option(min=3, help="Passes over the messages with and without rules.")] = 40,
    as_json: ResultAsJson = False,
) -> None:
    """Measure what sequence rules add to the CPU of decoding and aggregating spans.

    Prints CPU microseconds a span without rules, with 50 that no span fulfils, and with 50 that 1 % of them fulfil.

    Example: reasoner bench rules --rounds 100

    Exit codes: 0 ok, 2 wrong use.
    """
    from reasoner.bench.rules import bench_rules

    print_result(bench_rules(rounds, say), as_json)
