"""Client of the Iceberg tables: create and evolve them, and read what the jobs wrote."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, RESTError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import IdentityTransform, Transform, parse_transform
from pyiceberg.types import IcebergType, NestedField
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from reasoner.errors import CommandFailed, reason_of
from state_schemas.contracts.settings import BadConfig, Lake
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
# Seconds, of one attempt; `lake.properties` overrides them. PostgreSQL's client waits for ever, S3's tries four times.
_WAREHOUSE_LIMITS: Final = {"s3.connect-timeout": "3", "s3.request-timeout": "3"}
_CONNECT_S: Final = 5  # libpq tries twice, with and without TLS
_SQLITE: Final = "jdbc:sqlite:"


@contextmanager
def answering(lake: Lake) -> Iterator[None]:
    """Raise CommandFailed where the catalog or the warehouse does not answer, refuses, or lacks its library."""
    try:
        yield
    except SQLAlchemyError as error:
        found = reason_of(getattr(error, "orig", None) or error)
        message = (
            f"the catalog {lake.place} does not answer as expected ({found}); check lake.uri, lake.user, "
            "lake.password_file and that the database runs"
        )
        raise CommandFailed(message) from error
    except (RequestException, RESTError) as error:
        message = (
            f"the catalog {lake.place} does not answer as expected ({reason_of(error)}); check lake.uri, "
            "lake.token_file, lake.credential_file, lake.warehouse and that the catalog runs"
        )
        raise CommandFailed(message) from error
    except BadConfig as error:
        raise CommandFailed(str(error)) from error
    except NoSuchTableError as error:
        message = f"the catalog {lake.place} has no such table ({error}): create it with `reasoner tables create`"
        raise CommandFailed(message) from error
    except ModuleNotFoundError as error:
        what = f"catalog {lake.place}" if error.name == "boto3" else f"warehouse {lake.warehouse}"
        message = f"the {what} needs the Python package {error.name}: pip install {error.name}"
        raise CommandFailed(message) from error
    except OSError as error:
        message = (
            f"the warehouse {lake.warehouse} does not answer as expected ({reason_of(error)}); check lake.warehouse, "
            "lake.properties, and that this user may write there"
        )
        raise CommandFailed(message) from error


def catalog(lake: Lake) -> Catalog:
    """Return the catalog to which the jobs write, with the same warehouse. Raises BadConfig, or as `answering` says."""
    properties = {"warehouse": lake.warehouse, **_WAREHOUSE_LIMITS, **lake.shared_properties()}
    if lake.catalog == "glue":
        from pyiceberg.catalog.glue import GlueCatalog  # needs the extra `glue`

        return GlueCatalog("lake", **{**properties, **lake.properties})
    if lake.catalog == "rest":
        from reasoner.clients.rest_catalog import BoundedRestCatalog

        return BoundedRestCatalog("lake", **{"uri": lake.uri, **properties, **lake.properties})
    return SqlCatalog("lake", **{"uri": _database(lake), **properties, **lake.properties})


def _database(lake: Lake) -> str:
    """Return the address of the catalog's database for SQLAlchemy."""
    uri = lake.uri.removeprefix("jdbc:")
    if uri.startswith("sqlite:"):
        return "sqlite:///" + uri.removeprefix("sqlite:")
    user = quote(lake.user or "postgres")
    password = f":{quote(lake.password())}" if lake.password_file else ""
    uri = uri.replace("postgresql://", f"postgresql+psycopg2://{user}{password}@")
    return uri + f"{'&' if '?' in uri else '?'}connect_timeout={_CONNECT_S}"


def create_tables(lake: Lake) -> list[str]:
    """Create missing tables and add missing columns; return a line for each table. It is safe to repeat.

    Raises CommandFailed.
    """
    if file := _sqlite_file(lake):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"lake.uri: the folder {file.parent} cannot be made ({reason_of(error)}); choose another place"
            raise CommandFailed(message) from error
    with answering(lake):
        opened = catalog(lake)
        with suppress(NamespaceAlreadyExistsError):
            opened.create_namespace(NAMESPACE)
        return [_create_or_evolve(opened, spec) for spec in TABLES]


def tables(lake: Lake) -> Iterator[Table]:
    """Yield the tables that exist, in the order of `state_schemas.contracts.tables`. Raises CommandFailed."""
    if (file := _sqlite_file(lake)) and not file.exists():
        return  # SQLite would create it
    with answering(lake):
        opened = catalog(lake)
        for spec in TABLES:
            with suppress(NoSuchTableError):
                yield opened.load_table((NAMESPACE, spec.name))


def missing_tables(lake: Lake) -> list[str]:
    """Return the names of the tables that do not exist. Raises CommandFailed where the catalog does not answer."""
    present = {table.name()[-1] for table in tables(lake)}
    return [spec.name for spec in TABLES if spec.name not in present]


def read(lake: Lake, table: str, **scan: Any) -> Any:
    """Return rows of a table as a pyarrow Table. scan: row_filter, selected_fields as in pyiceberg's `Table.scan`.

    Raises CommandFailed.
    """
    if (file := _sqlite_file(lake)) and not file.exists():
        message = f"there is no catalog {file} (lake.uri): `reasoner tables create` makes it and its tables"
        raise CommandFailed(message)
    with answering(lake):
        return catalog(lake).load_table((NAMESPACE, table)).scan(**scan).to_arrow()


def _sqlite_file(lake: Lake) -> Path | None:
    return Path(lake.uri.removeprefix(_SQLITE)) if lake.uri.startswith(_SQLITE) else None


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
