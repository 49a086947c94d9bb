"""`reasoner graph`: print which stage of a job takes and gives which types, as both engines connect them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from jobs.graph import JOBS
from jobs.sinks import SHIPPED, rows_of
from operators.machine import RuledMachine, Stage
from operators.runtime.routing import RoutingTable, SinkRows, routes
from reasoner.runs.submit import job_named

app = typer.Typer(help="Print the stages of a job and the types that flow between them.")

JobName = Annotated[str, typer.Option("--job", help=f"Job: {', '.join(JOBS)}.")]
AsDot = Annotated[bool, typer.Option("--dot", help="Print Graphviz instead of a table.")]


@dataclass(frozen=True, slots=True)
class Flow:
    """One type of output of a step. to: uids of the stages and sinks that take it; empty if it is dropped."""

    uid: str
    key: str
    takes: tuple[str, ...]
    gives: str
    to: tuple[str, ...]


@app.command()
def graph(job: JobName = "insights", dot: AsDot = False) -> None:
    """Print the stages and sinks of a job, with the types that flow between them.

    Each row is one type of output of a step and the steps that take it. A step is a fold of one signal or a keyed
    stage; its name is its uid in savepoints. An output that no step takes, on purpose, is `dropped`. The graph is that
    of a job that reads all its topics.

    Example: reasoner graph --job latency-spikes --dot | dot -Tsvg > graph.svg

    Exit codes: 0 ok, 2 wrong use.
    """
    shown = job_named(job)
    stages = shown.stages(shown.default_config)
    flows = list(_flows(stages, routes(stages, rows_of(SHIPPED), JOBS[job].unused)))
    for line in _dot(job, flows) if dot else _table(flows):
        print(line)


def _flows(stages: Sequence[Stage], table: RoutingTable[SinkRows]) -> Iterator[Flow]:
    by_uid = {stage.uid: stage for stage in stages}
    for uid, takers in table.takers.items():
        key = "-"
        takes: tuple[str, ...] = ("OTLP",)
        if stage := by_uid.get(uid):
            rules = (stage.machine.rules,) if isinstance(stage.machine, RuledMachine) else ()
            key, takes = stage.key.fields, tuple(kind.__name__ for kind in (*stage.machine.takes, *rules))
        for given, found in takers.items():
            # A sink has the uid of each insert that it feeds.
            sinks = {sink.name for sink in found.sinks}
            inserts = (insert.uid for insert in SHIPPED if insert.rows.name in sinks)
            yield Flow(uid, key, takes, given.__name__, (*(stage.uid for stage in found.stages), *inserts))


def _table(flows: Sequence[Flow]) -> Iterator[str]:
    rows = [("STEP", "KEY", "TAKES", "GIVES", "TO")]
    rows += [(flow.uid, flow.key, ",".join(flow.takes), flow.gives, ",".join(flow.to) or "dropped") for flow in flows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _dot(name: str, flows: Sequence[Flow]) -> Iterator[str]:
    """Yield the lines of a digraph: folds and stages as boxes, sinks as cylinders, an edge for each pair of them."""
    steps = {flow.uid: flow.key for flow in flows}
    edges: dict[tuple[str, str], list[str]] = {}
    for flow in flows:
        for taker in flow.to:
            edges.setdefault((flow.uid, taker), []).append(flow.gives)
    sinks = dict.fromkeys(taker for _, taker in edges if taker not in steps)
    yield f'digraph "{name}" {{'
    yield "  rankdir=LR; node [shape=box];"
    yield from (f'  "{uid}" [label="{uid}\\n{key}"];' for uid, key in steps.items())
    yield from (f'  "{uid}" [shape=cylinder];' for uid in sinks)
    for (uid, to), types in edges.items():
        label = "\\n".join(types)
        yield f'  "{uid}" -> "{to}" [label="{label}"];'
    yield "}"
