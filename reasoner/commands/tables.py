"""`reasoner tables`: create, describe and maintain the Iceberg tables of the jobs."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from reasoner.commands.shared import group
from reasoner.errors import CommandFailed
from state_schemas.contracts.settings import Lake, ReaderConfig, load
from state_schemas.contracts.tables import TABLES

app = group(
    "Create, describe and maintain the Iceberg tables that the jobs write.", "reasoner tables create --config job.yaml"
)

Config = Annotated[Path, typer.Option(help="YAML file of the job; its section `lake` names the catalog.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def create(config: Config) -> None:
    """Create missing tables and add missing columns. It is safe to repeat.

    Example: reasoner tables create --config job.yaml

    Exit codes: 0 ok, 1 the catalog cannot be reached, 2 wrong use or wrong settings.
    """
    from reasoner.clients import lake

    for line in lake.create_tables(_lake(config)):
        print(line)


@app.command()
def describe(config: Config, as_json: AsJson = False) -> None:
    """Print columns, partitions, rows and files of each table.

    Example: reasoner tables describe --config job.yaml --json

    Exit codes: 0 ok, 1 a table is missing, 2 wrong use or wrong settings.
    """
    from reasoner.clients import lake

    settings = _lake(config)
    with lake.answering(settings):
        found = [_description(table) for table in lake.tables(settings)]
    if as_json:
        print(json.dumps({"tables": found}))
    else:
        for table in found:
            print(
                f"{table['name']}: {table['rows']} rows in {table['files']} files, by {', '.join(table['partitions'])}"
            )
            for column in table["columns"]:
                print(f"  {column['name']:16} {column['type']:12} {column['doc']}")
    _refuse_missing(config, [table["name"] for table in found])


@app.command()
def maintain(
    config: Config,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="Hours of snapshots to keep, for running readers and queries of older states.")
    ] = 24.0,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions to compact in one commit.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Merge the small files of each partition and remove old snapshots.

    It is safe while jobs run, and can run each hour.

    Example: reasoner tables maintain --config job.yaml --keep-hours 24

    Exit codes: 0 ok, 1 a table is missing or jobs commit faster than files are merged, 2 wrong use or settings.
    """
    from reasoner.clients import lake
    from reasoner.clients.lake_maintenance import maintain as maintenance

    # The age of a snapshot is a matter of the catalog, not of event time.
    before_ms = int((time.time() - keep_hours * 3_600) * 1000)
    settings = _lake(config)
    with lake.answering(settings):
        done = [maintenance(table, before_ms, partitions) for table in lake.tables(settings)]
    if as_json:
        print(json.dumps({"tables": [asdict(table) for table in done]}))
    for table in () if as_json else done:
        print(
            f"{table.table}: {table.files_before} files, now {table.files_after}; "
            f"{table.snapshots_expired} snapshots expired, {table.files_removed} files removed"
        )
    _refuse_missing(config, [table.table for table in done])


def _description(table: Any) -> dict[str, Any]:
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else {}
    return {
        "name": table.name()[-1],
        "location": table.location(),
        "rows": int(summary["total-records"] if snapshot else 0),
        "files": int(summary["total-data-files"] if snapshot else 0),
        "partitions": [f"{field.transform}({field.name})" for field in table.spec().fields],
        "columns": [{"name": f.name, "type": str(f.field_type), "doc": f.doc or ""} for f in table.schema().fields],
    }


def _refuse_missing(config: Path, found: Sequence[str]) -> None:
    """Raise CommandFailed where one of the tables does not exist."""
    missing = [spec.name for spec in TABLES if spec.name not in found]
    if missing:
        message = (
            f"the catalog {_lake(config).uri} has no table {', '.join(missing)}: create it with `reasoner tables "
            f"create --config {config}`"
        )
        raise CommandFailed(message)


def _lake(config: Path) -> Lake:
    return load(config, ReaderConfig).lake
