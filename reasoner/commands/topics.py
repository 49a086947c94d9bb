"""`reasoner topics`: create the Kafka topics of a job, and say which are missing."""

from pathlib import Path
from typing import Annotated

import typer

from reasoner.clients import topics
from reasoner.clients.topic_samples import topic_states
from reasoner.commands.shared import group
from reasoner.durations import retention_ms
from state_schemas.contracts.settings import Kafka, ReaderConfig, load

app = group("Create the Kafka topics that a job reads and writes.", "reasoner topics create --config job.yaml")

Config = Annotated[Path, typer.Option(help="YAML file of the job; its section `kafka` names the topics.")]


@app.command()
def create(
    config: Config,
    sources: Annotated[
        bool, typer.Option("--sources", help="Create the topics that the job reads as well (24 h retention).")
    ] = False,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each new topic.")] = 4,
    keep_sources: Annotated[str, typer.Option(help="Retention of topics that the job reads; or `forever`.")] = "24h",
    keep_insights: Annotated[str, typer.Option(help="Retention of the topic of insights.")] = "90d",
    keep_rejected: Annotated[str, typer.Option(help="Retention of the topic of dead letters.")] = "7d",
) -> None:
    """Create the missing topics of insights and dead letters. It is safe to repeat.

    Topics that exist keep their partitions and retention. The topics that the job reads are usually created by those
    who run the Collector; --sources creates them too. Only the topic of rules is compacted: a key has many insights.

    Example: reasoner topics create --config job.yaml --sources

    Exit codes: 0 ok, 1 Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    kafka = _kafka(config)
    kept = topics.Retention(
        retention_ms("--keep-sources", keep_sources),
        retention_ms("--keep-insights", keep_insights),
        retention_ms("--keep-rejected", keep_rejected),
    )
    specs = topics.sink_specs(kafka, partitions, kept) | topics.rule_specs(kafka)
    if sources:
        specs |= topics.source_specs(kafka, partitions, kept)
    created = topics.create_topics(kafka.bootstrap_servers, specs)
    for name in sorted(specs):
        print(f"{name}: {'created' if name in created else 'exists'}")


@app.command()
def describe(config: Config) -> None:
    """Print partitions, retention and clean-up of each topic of the job, or that it is missing.

    Example: reasoner topics describe --config job.yaml

    Exit codes: 0 all exist, 1 some are missing or Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    kafka = _kafka(config)
    names = [*topics.source_names(kafka), *topics.sink_specs(kafka, 1), *topics.rule_specs(kafka)]
    states = topic_states(kafka.bootstrap_servers, names)
    for name in names:
        print(f"{name}: {states[name].text() if name in states else 'missing'}")
    raise typer.Exit(1 if set(names) - set(states) else 0)


def _kafka(config: Path) -> Kafka:
    return load(config, ReaderConfig).kafka
