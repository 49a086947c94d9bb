"""`reasoner tables`: the Iceberg tables that the jobs write."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from state_schemas.contracts.settings import Lake, ReaderConfig, load
from state_schemas.contracts.tables import TABLES

app = typer.Typer(no_args_is_help=True, help="The Iceberg tables that the jobs write.")

Config = Annotated[Path, typer.Option(help="The job's YAML file: its section `lake` says where.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command()
def create(config: Config) -> None:
    """Create the tables, or add the columns that an older build did not have. Twice is fine."""
    from reasoner.clients import lake

    for line in lake.create_tables(_lake(config)):
        print(line)


@app.command()
def describe(config: Config, as_json: AsJson = False) -> None:
    """Columns, partitions, rows and files of each table. Exit code 1 where a table is missing."""
    from reasoner.clients import lake

    found = [_description(table) for table in lake.tables(_lake(config))]
    if as_json:
        print(json.dumps({"tables": found}))
    else:
        for table in found:
            print(
                f"{table['name']}: {table['rows']} rows in {table['files']} files, by {', '.join(table['partitions'])}"
            )
            for column in table["columns"]:
                print(f"  {column['name']:16} {column['type']:12} {column['doc']}")
    if len(found) < len(TABLES):
        raise typer.Exit(1)


@app.command()
def maintain(
    config: Config,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="Snapshots younger than this stay, to look back and for running readers.")
    ] = 24.0,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions put together in one commit.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Put the small files of each partition together and drop old snapshots. Safe beside running jobs; hourly is fine.

    Exit code 1 where jobs commit faster than files can be put together.
    """
    from reasoner.clients import lake
    from reasoner.clients.lake_maintenance import MaintenanceLimits, now_ms
    from reasoner.clients.lake_maintenance import maintain as maintenance

    limits = MaintenanceLimits(partitions_max=partitions, keep_ms=int(keep_hours * 3_600_000))
    done = [maintenance(table, limits, now_ms()) for table in lake.tables(_lake(config))]
    if as_json:
        print(json.dumps({"tables": [asdict(table) for table in done]}))
        return
    for table in done:
        print(
            f"{table.table}: {table.files_before} files, now {table.files_after}; "
            f"{table.snapshots_expired} snapshots expired, {table.files_removed} files removed"
        )


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


def _lake(config: Path) -> Lake:
    return load(config, ReaderConfig).lake
