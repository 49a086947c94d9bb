"""`reasoner insights`: print insights from the topic and patterns from the tables."""

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from reasoner.clients.insight_topic import committed, last_revisions, poll, read_all
from reasoner.commands.shared import group, print_table
from reasoner.errors import CommandFailed
from state_schemas.contracts.insight import from_json, to_json
from state_schemas.contracts.settings import Kafka, ReaderConfig, load

app = group(
    "Print insights from the topic `insight_out` and log patterns from the tables.\n\n"
    "Only committed messages are read.",
    "reasoner insights list --config job.yaml",
)

Config = Annotated[Path | None, typer.Option(help="YAML file of the job (default: the default settings).")]
Bootstrap = Annotated[
    str | None, typer.Option(help="Address of Kafka (default: that of the settings).", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


@app.command(name="list")
def list_command(config: Config = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """List the last revision of each insight that is not retracted, by start.

    Example: reasoner insights list --bootstrap 127.0.0.1:9092

    Exit codes: 0 ok, 1 Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    kafka = _kafka(config, bootstrap)
    held = last_revisions(read_all(kafka.bootstrap_servers, kafka.topics.insights))
    if as_json:
        for insight in held:
            print(to_json(insight).decode())
        return
    rows = ((i.insight_id[:8], i.status, i.kind, i.env, i.service, i.title) for i in held)
    print_table(("id", "status", "kind", "env", "service", "title"), rows)


@app.command()
def show(
    insight_id: Annotated[str, typer.Argument(help="Id of the insight, or its first characters.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Print every revision of one insight as JSON.

    Example: reasoner insights show 3f2a91c0

    Exit codes: 0 ok, 1 no insight has this id, 2 wrong use or wrong settings.
    """
    kafka = _kafka(config, bootstrap)
    found = [from_json(body) for body in read_all(kafka.bootstrap_servers, kafka.topics.insights)]
    matching = [insight for insight in found if insight.insight_id.startswith(insight_id)]
    if not matching:
        message = f"no insight {insight_id} among {len(found)} revisions; `reasoner insights list` shows the ids"
        raise CommandFailed(message)
    for insight in sorted(matching, key=lambda insight: (insight.insight_id, insight.revision)):
        print(msgspec.json.format(to_json(insight), indent=2).decode())


@app.command()
def tail(config: Config = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Print revisions as they are committed, until Ctrl-C.

    Example: reasoner insights tail --config job.yaml --json

    Exit codes: 2 wrong use or wrong settings, 130 interrupted.
    """
    kafka = _kafka(config, bootstrap)
    with committed(kafka.bootstrap_servers, kafka.topics.insights) as consumer:
        while True:
            for body in poll(consumer, 1_000):
                insight = from_json(body)
                print(body.decode() if as_json else f"{insight.status:9} {insight.env}  {insight.title}", flush=True)


@app.command()
def patterns(
    config: Annotated[Path, typer.Option(help="YAML file of the job; its section `lake` names the tables.")],
    service: Annotated[str, typer.Option(help="Only patterns of this service (default: all).")] = "",
    as_json: AsJson = False,
) -> None:
    """List patterns of severe log lines and of exceptions of spans from the Iceberg tables, most lines first.

    Example: reasoner insights patterns --config job.yaml --service checkout

    Exit codes: 0 ok, 1 the tables cannot be read, 2 wrong use or wrong settings.
    """
    from reasoner.clients.known_patterns import known_patterns

    found = known_patterns(load(config, ReaderConfig).lake, service)
    if as_json:
        for pattern in found:
            print(json.dumps(pattern._asdict()))
        return
    rows = (
        (p.pattern_id, f"{p.lines:,}", p.first_seen[:19].replace("T", " "), p.env, p.service, p.source, p.template)
        for p in found
    )
    print_table(("pattern", "lines", "first seen", "env", "service", "of", "template"), rows)


def _kafka(config: Path | None, bootstrap: str | None) -> Kafka:
    kafka = load(config, ReaderConfig).kafka if config else Kafka()
    return kafka.model_copy(update={"bootstrap_servers": bootstrap}) if bootstrap else kafka
