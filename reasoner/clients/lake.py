"""Client of the Iceberg tables: create and evolve them, and read what the jobs wrote."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import IdentityTransform, Transform, parse_transform
from pyiceberg.types import IcebergType, NestedField
from sqlalchemy.exc import SQLAlchemyError

from reasoner.errors import CommandFailed
from state_schemas.contracts.settings import Lake
from state_schemas.contracts.tables import NAMESPACE, TABLES, Column, TableSpec

_PROPERTIES: Final = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    # Rows of one partition go to one writer; without this each writer opens a file in each partition.
    "write.distribution-mode": "hash",
    # `reasoner tables maintain` replaces files by name: rows that a job appends at the same time are no conflict.
    "write.delete.isolation-level": "snapshot",
    # Each checkpoint, every few seconds, writes a metadata file; without this all of them are kept.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}


def catalog(lake: Lake) -> Catalog:
    """Return the catalog to which the jobs write, over the same database and warehouse."""
    uri = lake.uri.removeprefix("jdbc:")
    if uri.startswith("sqlite:"):
        uri = "sqlite:///" + uri.removeprefix("sqlite:")
    else:
        user = quote(lake.user or "postgres")
        password = f":{quote(lake.password_file.read_text().strip())}" if lake.password_file else ""
        uri = uri.replace("postgresql://", f"postgresql+psycopg2://{user}{password}@")
    return SqlCatalog("lake", uri=uri, warehouse=lake.warehouse, **lake.properties)


def create_tables(lake: Lake) -> list[str]:
    """Create missing tables and add missing columns; return a line for each table. It is safe to repeat."""
    if lake.uri.startswith("jdbc:sqlite:"):
        Path(lake.uri.removeprefix("jdbc:sqlite:")).parent.mkdir(parents=True, exist_ok=True)
    opened = catalog(lake)
    with suppress(NamespaceAlreadyExistsError):
        opened.create_namespace(NAMESPACE)
    return [_create_or_evolve(opened, spec) for spec in TABLES]


def tables(lake: Lake) -> Iterator[Table]:
    """Yield the tables that exist, in the order of `state_schemas.contracts.tables`."""
    opened = catalog(lake)
    for spec in TABLES:
        try:
            yield opened.load_table((NAMESPACE, spec.name))
        except NoSuchTableError:
            continue


def missing_tables(lake: Lake) -> list[str]:
    """Return the names of the tables that do not exist. Raises CommandFailed where the catalog does not answer."""
    try:
        present = {table.name()[-1] for table in tables(lake)}
    except (SQLAlchemyError, OSError) as error:
        reason = str(error).partition("\n")[0]
        message = f"the catalog {lake.uri} does not answer ({reason}); check lake.uri, lake.user and lake.password_file"
        raise CommandFailed(message) from error
    return [spec.name for spec in TABLES if spec.name not in present]


def read(lake: Lake, table: str, **scan: Any) -> Any:
    """Return rows of a table as a pyarrow Table. scan: row_filter, selected_fields as in pyiceberg's `Table.scan`."""
    return catalog(lake).load_table((NAMESPACE, table)).scan(**scan).to_arrow()


def _create_or_evolve(opened: Catalog, spec: TableSpec) -> str:
    name = (NAMESPACE, spec.name)
    try:
        table = opened.load_table(name)
    except NoSuchTableError:
        # Every column is optional: a column that is added later must be, and one rule for all is simpler.
        fields = (NestedField(n, c.name, _type(c), required=False, doc=c.doc) for n, c in enumerate(spec.columns, 1))
        schema = Schema(*fields)
        sorted_by = (SortField(schema.find_field(name).field_id, transform=IdentityTransform()) for name in spec.sort)
        opened.create_table(
            name,
            schema,
            partition_spec=_partitions(spec, schema),
            sort_order=SortOrder(*sorted_by),
            properties=_PROPERTIES,
        )
        return f"{spec.name}: created"
    known = {field.name for field in table.schema().fields}
    added = [column for column in spec.columns if column.name not in known]
    if not added:
        return f"{spec.name}: up to date"
    with table.update_schema() as update:
        for column in added:
            update.add_column(column.name, _type(column), column.doc)
    return f"{spec.name}: added {', '.join(column.name for column in added)}"


def _type(column: Column) -> IcebergType:
    return IcebergType.model_validate(column.type)


def _partitions(spec: TableSpec, schema: Schema) -> PartitionSpec:
    fields = []
    for index, (column, transform) in enumerate(spec.partition):
        parsed: Transform[Any, Any] = parse_transform(transform)
        label = column if isinstance(parsed, IdentityTransform) else f"{column}_{transform.partition('[')[0]}"
        fields.append(PartitionField(schema.find_field(column).field_id, 1000 + index, parsed, label))
    return PartitionSpec(*fields)
