"""`reasoner insights`: print insights from the topic and patterns from the tables."""

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from reasoner.clients.insight_topic import committed, hidden, last_revisions, poll, read_all, to_end
from reasoner.commands.shared import group, print_table, say
from reasoner.errors import CommandFailed
from reasoner.runs import insight_view as view
from state_schemas.contracts.insight import Insight, from_json, to_json
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
Env = Annotated[str, typer.Option(help="Only this environment.")]
Service = Annotated[str, typer.Option(help="Only this service.")]
KindOption = Annotated[str, typer.Option("--kind", help="Only this kind, such as latency_spike.")]
SeverityOption = Annotated[
    str, typer.Option("--severity", help="Only this severity and above: info, warning, critical.")
]
StatusOption = Annotated[str, typer.Option("--status", help="Only this status: open (updated ones too) or closed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


@app.command(name="list")
def list_command(
    config: Config = None,
    bootstrap: Bootstrap = None,
    since: Annotated[str, typer.Option(help="Ended ones of the last 90s, 30m, 12h, 2d of event time.")] = "1h",
    env: Env = "",
    service: Service = "",
    kind: KindOption = "",
    severity: SeverityOption = "",
    status: StatusOption = "",
    as_json: AsJson = False,
) -> None:
    """List what is open and what ended in the last hour, by start: two lines each, then a summary.

    Of each insight the last revision counts; retracted ones are left out. With --json one object a line.

    Example: reasoner insights list --bootstrap 127.0.0.1:9092 --since 12h --severity warning

    Exit codes: 0 ok, 1 Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    wanted = view.Wanted(env, service, kind, severity, status)
    view.since_ms(since, 0)  # wrong use is said before Kafka is asked
    kafka = _kafka(config, bootstrap)
    held = last_revisions(read_all(kafka.bootstrap_servers, kafka.topics.insights))
    newest_ms = max((insight.window.end_ms for insight in held), default=0)
    found = view.shown(held, wanted, view.since_ms(since, newest_ms))
    for insight in found:
        _print(insight, as_json)
    if not as_json:
        say(view.summary(insight for insight in held if wanted.takes(insight)))
        _say_hidden(kafka)


@app.command()
def summary(config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Print one line: how many insights are open, and the worst of them.

    Example: reasoner insights summary --config job.yaml

    Exit codes: 0 ok, 1 Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    kafka = _kafka(config, bootstrap)
    print(view.summary(last_revisions(read_all(kafka.bootstrap_servers, kafka.topics.insights))))
    _say_hidden(kafka)


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
def tail(
    config: Config = None,
    bootstrap: Bootstrap = None,
    env: Env = "",
    service: Service = "",
    kind: KindOption = "",
    severity: SeverityOption = "",
    status: StatusOption = "",
    as_json: AsJson = False,
) -> None:
    """Print what is open, then revisions as they are committed, until Ctrl-C.

    Example: reasoner insights tail --config job.yaml --service checkout

    Exit codes: 1 Kafka cannot be reached, 2 wrong use or wrong settings, 130 interrupted.
    """
    wanted = view.Wanted(env, service, kind, severity, status)
    kafka = _kafka(config, bootstrap)
    with committed(kafka.bootstrap_servers, kafka.topics.insights) as consumer:
        for insight in last_revisions(to_end(consumer)):
            if view.is_open(insight) and wanted.takes(insight):
                _print(insight, as_json)
        while True:
            for body in poll(consumer, 1_000):
                insight = from_json(body)
                if wanted.takes(insight):
                    _print(insight, as_json)


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


def _print(insight: Insight, as_json: bool) -> None:
    """Print an insight as two lines or as one JSON object. Lines are not cut: the terminal wraps them."""
    if as_json:
        print(to_json(insight).decode(), flush=True)
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        Text(view.head(insight), style=view.COLOURS.get(insight.severity, "") if view.is_open(insight) else "dim")
    )
    console.print(Text(view.body(insight)))


def _say_hidden(kafka: Kafka) -> None:
    """Say where messages are not visible yet: a reader would take the state before them for the newest."""
    behind = hidden(kafka.bootstrap_servers, kafka.topics.insights)
    if behind:
        say(
            f"{behind} messages of {kafka.topics.insights} are not committed yet; they become visible at the next "
            "checkpoint. If this stays, a job that was cancelled or killed has left a transaction open: end it with "
            "`reasoner transactions abort`"
        )
