"""Flink's tables behind the sinks: the catalog, the topics and the INSERTs by which rows leave the job."""

from collections.abc import Sequence

from py4j.protocol import Py4JJavaError
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment
from pyflink.util.exceptions import JavaException

from jobs.lake_catalog import catalog_options, without_secrets
from jobs.settings import JobConfig
from jobs.sinks import SHIPPED, Insert
from jobs.table_sql import stable_uids, with_clause
from state_schemas.contracts.settings import Lake


def attach(
    tables: StreamTableEnvironment,
    streams: dict[str, list[DataStream]],
    config: JobConfig,
    inserts: Sequence[Insert] = SHIPPED,
) -> None:
    """Connect every sink that receives rows. The uids are stable: a new sink moves no state of the other sinks."""
    _create_catalog(tables, config.lake)
    tables.get_config().set("table.exec.iceberg.use-v2-sink", "true")
    views = {}
    for name, parts in streams.items():
        if not parts:
            continue
        first, *more = parts
        views[name] = f"view_{name.replace('-', '_')}"
        tables.create_temporary_view(views[name], first.union(*more) if more else first)
    for insert in inserts:
        if insert.rows.name not in views:
            continue
        if insert.table:
            tables.execute_sql(insert.table(config))
        stable_uids(tables, insert.uid)
        statements = tables.create_statement_set()
        statements.add_insert_sql(insert.sql.format(view=views[insert.rows.name]))
        statements.attach_as_datastream()


def _create_catalog(tables: StreamTableEnvironment, lake: Lake) -> None:
    options = catalog_options(lake)
    try:
        tables.execute_sql(f"CREATE CATALOG lake {with_clause(options)}")
    except (JavaException, Py4JJavaError) as error:
        # Flink prints the options of a catalog that it cannot create, and hides fewer secrets than there are.
        raise JavaException(without_secrets(str(error), options)) from None
