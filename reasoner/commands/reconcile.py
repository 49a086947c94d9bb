"""`reasoner reconcile`: send again what a long outage took from the topic of insights."""

import time
from pathlib import Path
from typing import Annotated

import typer

from reasoner.commands.shared import say
from reasoner.runs import insight_view as view
from reasoner.runs.reconcile import lost_since, send
from state_schemas.contracts.settings import ReaderConfig, load

app = typer.Typer(help="Send again the insights that their table has and their topic lacks.")


@app.command()
def reconcile_command(
    config: Annotated[Path, typer.Option(help="YAML file of the job.")],
    since: Annotated[str, typer.Option(help="Insights that ended in the last 90m, 24h, 7d.")] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print them, and send nothing.")] = False,
) -> None:
    """Send the newest revision of each insight that the table has and the topic lacks; print them.

    This happens when a job is down for longer than `kafka.transaction_timeout_ms`: the broker ends what the next start
    would have committed. A message has the id that it would have had, so one that comes twice does no harm.

    Example: reasoner reconcile --config job.yaml --since 12h

    Exit codes: 0 ok, 1 topic or table cannot be read, 2 wrong use or wrong settings.
    """
    settings = load(config, ReaderConfig)
    now_ms = int(time.time() * 1000)
    found = lost_since(settings, view.since_ms(since, now_ms), now_ms)
    if not dry_run:
        send(settings, found)
    for insight in found:
        print(f"{view.head(insight)}\n{view.body(insight)}")
    say(f"{len(found)} insights {'would be sent' if dry_run else 'were sent'} again")
