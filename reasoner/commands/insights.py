"""`reasoner insights`: what the jobs have said, from the topic."""

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from reasoner.clients.insight_topic import committed, last_revisions, poll, read_all
from reasoner.errors import CommandFailed
from state_schemas.contracts.insight import from_json, to_json
from state_schemas.contracts.settings import Kafka, ReaderConfig, load

app = typer.Typer(no_args_is_help=True, help="What the jobs have said: committed revisions of `insight_out`.")

Config = Annotated[Path | None, typer.Option(help="The job's YAML file; else the defaults, and --bootstrap.")]
Bootstrap = Annotated[str | None, typer.Option(help="Kafka's address.  [default: the config's]", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines.")]


@app.command(name="list")
def list_command(config: Config = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """What holds: the last revision of each insight that was not retracted, by start."""
    kafka = _kafka(config, bootstrap)
    held = last_revisions(read_all(kafka.bootstrap_servers, kafka.topics.insights))
    if as_json:
        for insight in held:
            print(to_json(insight).decode())
        return
    table = Table("id", "status", "kind", "env", "service", "title", box=None)
    for insight in held:
        table.add_row(insight.insight_id[:8], insight.status, insight.kind, insight.env, insight.service, insight.title)
    Console().print(table)


@app.command()
def show(
    insight_id: Annotated[str, typer.Argument(help="The id, or the start of it.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Every revision of one insight, whole. Exit code 1 where there is none."""
    kafka = _kafka(config, bootstrap)
    found = [from_json(body) for body in read_all(kafka.bootstrap_servers, kafka.topics.insights)]
    matching = [insight for insight in found if insight.insight_id.startswith(insight_id)]
    if not matching:
        message = f"no insight {insight_id} among {len(found)} revisions; `reasoner insights list` shows what there is"
        raise CommandFailed(message)
    for insight in sorted(matching, key=lambda insight: (insight.insight_id, insight.revision)):
        print(msgspec.json.format(to_json(insight), indent=2).decode())


@app.command()
def tail(config: Config = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Revisions as they are committed, until Ctrl-C."""
    kafka = _kafka(config, bootstrap)
    with committed(kafka.bootstrap_servers, kafka.topics.insights) as consumer:
        while True:
            for body in poll(consumer, 1_000):
                insight = from_json(body)
                print(body.decode() if as_json else f"{insight.status:9} {insight.env}  {insight.title}", flush=True)


@app.command()
def patterns(
    config: Annotated[Path, typer.Option(help="The job's YAML file.")],
    service: Annotated[str, typer.Option(help="Of this service only.")] = "",
    as_json: AsJson = False,
) -> None:
    """Patterns of log lines of WARN and up and of exceptions of spans, most lines first, from the Iceberg tables."""
    from reasoner.clients.known_patterns import known_patterns

    found = known_patterns(load(config, ReaderConfig).lake, service)
    if as_json:
        for pattern in found:
            print(json.dumps(pattern._asdict()))
        return
    table = Table("pattern", "lines", "first seen", "env", "service", "of", "template", box=None)
    for pattern in found:
        at, lines = pattern.first_seen[:19].replace("T", " "), f"{pattern.lines:,}"
        place = (pattern.env, pattern.service, pattern.source)
        table.add_row(pattern.pattern_id, lines, at, *place, pattern.template)
    Console().print(table)


def _kafka(config: Path | None, bootstrap: str | None) -> Kafka:
    kafka = load(config, ReaderConfig).kafka if config else Kafka()
    return kafka.model_copy(update={"bootstrap_servers": bootstrap}) if bootstrap else kafka
