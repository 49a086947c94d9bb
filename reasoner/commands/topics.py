"""`reasoner topics`: create the Kafka topics of a job, and say which are missing."""

from pathlib import Path
from typing import Annotated

import typer

from reasoner.clients import topics
from reasoner.commands.shared import group
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
) -> None:
    """Create missing topics of insights (90 days retention) and dead letters (7 days). It is safe to repeat.

    Topics that exist keep their partitions and retention. The topics that the job reads are usually created by those
    who run the Collector; --sources creates them too.

    Example: reasoner topics create --config job.yaml --sources

    Exit codes: 0 ok, 1 Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    kafka = _kafka(config)
    specs = topics.sink_specs(kafka, partitions)
    if sources:
        specs |= topics.source_specs(kafka, partitions)
    created = topics.create_topics(kafka.bootstrap_servers, specs)
    for name in sorted(specs):
        print(f"{name}: {'created' if name in created else 'exists'}")


@app.command()
def describe(config: Config) -> None:
    """Print whether each topic of the job exists.

    Example: reasoner topics describe --config job.yaml

    Exit codes: 0 all exist, 1 some are missing or Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    kafka = _kafka(config)
    names = [*topics.source_names(kafka), *topics.sink_specs(kafka, 1)]
    missing = topics.missing_topics(kafka.bootstrap_servers, names)
    for name in names:
        print(f"{name}: {'missing' if name in missing else 'exists'}")
    raise typer.Exit(1 if missing else 0)


def _kafka(config: Path) -> Kafka:
    return load(config, ReaderConfig).kafka
