"""`reasoner tables`: the Iceberg tables that the jobs write."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.config import BadConfig, Lake, load
from reasoner import lake
from reasoner.errors import WrongUse
from state_schemas.tables import TABLES

app = typer.Typer(no_args_is_help=True, help="The Iceberg tables that the jobs write.")

Config = Annotated[Path, typer.Option(help="The job's YAML file: its section `lake` says where.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command()
def create(config: Config) -> None:
    """Create the tables, or add the columns that an older build did not have. Twice is fine."""
    for line in lake.create_tables(_lake(config)):
        print(line)


@app.command()
def describe(config: Config, as_json: AsJson = False) -> None:
    """Columns, partitions, rows and files of each table. Exit code 1 where a table is missing."""
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
    try:
        return load(config).lake
    except BadConfig as error:
        raise WrongUse(str(error)) from error
