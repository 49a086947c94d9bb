"""`reasoner insights`: print insights from the topic and patterns from the tables."""

import json
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import msgspec
import typer
from kafka.errors import KafkaError
from rich.console import Console
from rich.text import Text

from reasoner.clients.insight_topic import committed, hidden, last_revisions, poll, to_end
from reasoner.commands.shared import group, print_table, say
from reasoner.errors import CommandFailed
from reasoner.runs import insight_view as view
from state_schemas.contracts.insight import Insight, from_json, to_json
from state_schemas.contracts.settings import CHECKPOINT_INTERVAL_MS, Kafka, Links, ReaderConfig, load

POLL_MS: Final = 1_000
HIDDEN_CHECK_S: Final = 10.0

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
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with revisions as they are committed.")] = False,
) -> None:
    """List what is open and what ended in the last hour, by start: two lines each, then a summary.

    Of each insight the last revision counts; retracted ones are left out. With --json one object a line.

    Example: reasoner insights list --bootstrap 127.0.0.1:9092 --since 12h --severity warning

    Exit codes: 0 ok, 1 Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    wanted = view.Wanted(env, service, kind, severity, status)
    view.since_ms(since, 0)  # wrong use is said before Kafka is asked
    printer = _Printer.of(config, bootstrap, as_json=as_json)
    with printer.reading() as consumer:
        held = last_revisions(to_end(consumer))
        newest_ms = max((insight.window.end_ms for insight in held), default=0)
        printer.insights(view.shown(held, wanted, view.since_ms(since, newest_ms)))
        if not as_json:
            say(view.summary(insight for insight in held if wanted.takes(insight)))
            printer.hidden()
        if follow:
            printer.follow(consumer, wanted)


@app.command()
def summary(config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Print one line: how many insights are open, and the worst of them.

    Example: reasoner insights summary --config job.yaml

    Exit codes: 0 ok, 1 Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    printer = _Printer.of(config, bootstrap)
    with printer.reading() as consumer:
        print(view.summary(last_revisions(to_end(consumer))))
    printer.hidden()


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
    with _Printer.of(config, bootstrap).reading() as consumer:
        found = [from_json(body) for body in to_end(consumer)]
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
    printer = _Printer.of(config, bootstrap, as_json=as_json)
    with printer.reading() as consumer:
        printer.insights(filter(view.is_open, filter(wanted.takes, last_revisions(to_end(consumer)))))
        printer.follow(consumer, wanted)


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


@dataclass(frozen=True, slots=True)
class _Printer:
    """What a command reads and how it prints it."""

    kafka: Kafka
    links: Links
    as_json: bool
    # Milliseconds between checkpoints.
    interval_ms: int

    @classmethod
    def of(cls, config: Path | None, bootstrap: str | None, *, as_json: bool = False) -> "_Printer":
        """Return the printer of a job's settings, or of the default ones. bootstrap: overrides the address."""
        kafka, links, interval_ms = Kafka(), Links(), CHECKPOINT_INTERVAL_MS
        if config:
            settings = load(config, ReaderConfig)
            kafka, links, interval_ms = settings.kafka, settings.links, settings.checkpoint_interval_ms
        kafka = kafka.model_copy(update={"bootstrap_servers": bootstrap}) if bootstrap else kafka
        return cls(kafka, links, as_json, interval_ms)

    def reading(self) -> AbstractContextManager[Any]:
        """Return a consumer of the committed insights, at the beginning of their topic."""
        return committed(self.kafka.bootstrap_servers, self.kafka.topics.insights)

    def insights(self, found: Iterable[Insight]) -> None:
        """Print each as its lines, or as one JSON object. Lines are not cut: the terminal wraps them."""
        console = Console(soft_wrap=True, highlight=False)
        for insight in found:
            if self.as_json:
                print(to_json(insight).decode(), flush=True)
                continue
            style = view.COLOURS.get(insight.severity, "") if view.is_open(insight) else "dim"
            console.print(Text(view.head(insight), style=style))
            console.print(Text("\n".join([view.body(insight), *map("    {}".format, view.links(insight, self.links))])))

    def hidden(self) -> None:
        """Say what readers cannot see yet."""
        found = hidden(self.kafka.bootstrap_servers, self.kafka.topics.insights)
        if found:
            say(view.hidden_text(self.kafka.topics.insights, found))

    def follow(self, consumer: Any, wanted: view.Wanted) -> NoReturn:
        """Print revisions as they are committed; say once of each reason for which they stay away."""
        said: object = None
        next_s = time.monotonic() + HIDDEN_CHECK_S
        while True:
            self.insights(filter(wanted.takes, map(from_json, poll(consumer, POLL_MS))))
            if time.monotonic() >= next_s:
                reason, text = self._stays_away()
                if reason is not None and reason != said:
                    say(text)
                said, next_s = reason, time.monotonic() + HIDDEN_CHECK_S

    def _stays_away(self) -> tuple[object, str]:
        """Return why insights are not visible although they may be there, and the sentence; (None, "") if they are."""
        address = self.kafka.bootstrap_servers
        try:
            found = hidden(address, self.kafka.topics.insights)
        except (CommandFailed, KafkaError):
            return address, f"Kafka at {address} does not answer; this command goes on when it does"
        if found is None or not view.stays_hidden(found, int(time.time() * 1000), self.interval_ms):
            return None, ""
        return (found.since_ms,), view.hidden_text(self.kafka.topics.insights, found)
