"""Sinks of the job: the Iceberg tables and the Kafka topics; rows of one type go into each of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from jobs.settings import JobConfig
from jobs.table_sql import kafka_options, stable_uids, with_clause
from operators.runtime.flink import SinkRows
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight, to_json
from state_schemas.contracts.settings import Kafka, Lake
from state_schemas.contracts.tables import (
    ERROR_PATTERNS,
    INSIGHTS,
    LATENCY_ROLLUPS,
    NAMESPACE,
    PATTERN_REGISTRY,
    SERVICE_EDGES,
    Column,
    TableSpec,
)


def _insight_row(insight: Insight) -> Sequence[Any]:
    window = {"window_start_ms": insight.window.start_ms, "window_end_ms": insight.window.end_ms}
    fields = {**msgspec.structs.asdict(insight), **window, "body": to_json(insight).decode()}
    return (f"{insight.env}|{insight.service}", *(fields[name] for name, _ in INSIGHTS.fields))


def _dead_letter_row(letter: DeadLetter) -> Sequence[Any]:
    fields = msgspec.structs.asdict(letter)
    if not letter.payload:
        del fields["payload"]
    return (f"{letter.topic}|{letter.partition}", msgspec.json.encode(fields).decode())


INSIGHT_REVISIONS = SinkRows("insights", Insight, (("message_key", "string"), *INSIGHTS.fields), _insight_row)
DEAD_LETTERS = SinkRows("dead-letters", DeadLetter, (("message_key", "string"), ("body", "string")), _dead_letter_row)


@dataclass(frozen=True)
class Insert:
    """A sink of the job.

    - uid: names the state of the sink in savepoints. It never changes and is never used again for another sink.
    - sql: an INSERT statement with `{view}` as placeholder for the rows of `rows`.
    - topic: only for a sink into Kafka: the name of the Kafka table, which is declared first, and a function that
      returns its topic from the settings.
    """

    uid: str
    rows: SinkRows
    sql: str
    topic: tuple[str, Callable[[JobConfig], str]] | None = None


def _table_insert(uid: str, spec: TableSpec, rows: SinkRows) -> Insert:
    """Build the INSERT of a table.

    It names the columns: a table to which columns were added may have them in another order.
    """
    columns = ", ".join(f"`{column.name}`" for column in spec.columns)
    values = ", ".join(_value(column) for column in spec.columns)
    return Insert(uid, rows, f"INSERT INTO lake.{NAMESPACE}.{spec.name} ({columns}) SELECT {values} FROM {{view}}")


def _table_rows(name: str, spec: TableSpec) -> SinkRows:
    """Build the rows of a table from its struct, field by field."""
    assert spec.row is not None, f"{spec.name} has no row struct, so it needs SinkRows of its own"
    return SinkRows(name, spec.row, spec.fields, msgspec.structs.astuple)


def _value(column: Column) -> str:
    field, _ = column.field
    return f"TO_TIMESTAMP_LTZ(`{field}`, 3)" if column.type == "timestamptz" else f"`{field}`"


def _event_sql(table: str, **attributes: str) -> str:
    """Build the INSERT of a Kafka table of JSON. attributes: CloudEvents attributes as SQL expressions over the rows."""
    headers = {"ce_specversion": "'1.0'", **attributes, "content-type": "'application/json'"}
    pairs = ", ".join(f"'{name}', ENCODE({value}, 'UTF-8')" for name, value in headers.items())
    return f"INSERT INTO {table} SELECT message_key, body, MAP[{pairs}] FROM {{view}}"


SHIPPED = (
    _table_insert("lake-rollups", LATENCY_ROLLUPS, _table_rows("rollups", LATENCY_ROLLUPS)),
    _table_insert("lake-edges", SERVICE_EDGES, _table_rows("edges", SERVICE_EDGES)),
    _table_insert("lake-patterns", ERROR_PATTERNS, _table_rows("patterns", ERROR_PATTERNS)),
    _table_insert("lake-pattern-names", PATTERN_REGISTRY, _table_rows("pattern-names", PATTERN_REGISTRY)),
    _table_insert("lake-insights", INSIGHTS, INSIGHT_REVISIONS),
    Insert(
        "kafka-insights",
        INSIGHT_REVISIONS,
        _event_sql(
            "insights_topic",
            ce_id="insight_id || ':' || CAST(revision AS STRING)",
            ce_source="'/metric-reasoner/' || message_key",
            ce_type="'metric-reasoner.insight.v1'",
        ),
        ("insights_topic", lambda config: config.kafka.topics.insights),
    ),
    Insert(
        "kafka-dead-letters",
        DEAD_LETTERS,
        _event_sql("rejected_topic", ce_type="'metric-reasoner.rejected.v1'"),
        ("rejected_topic", lambda config: config.kafka.topics.rejected),
    ),
)


def rows_of(inserts: Sequence[Insert]) -> tuple[SinkRows, ...]:
    """Return the rows that these sinks take, each kind once, in the order of the sinks."""
    return tuple({insert.rows.name: insert.rows for insert in inserts}.values())


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
        if insert.topic:
            table, topic_of = insert.topic
            _create_topic_table(tables, table, topic_of(config), config.kafka, config.name)
        stable_uids(tables, insert.uid)
        statements = tables.create_statement_set()
        statements.add_insert_sql(insert.sql.format(view=views[insert.rows.name]))
        statements.attach_as_datastream()


def _create_catalog(tables: StreamTableEnvironment, lake: Lake) -> None:
    options = {
        "type": "iceberg",
        "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        "uri": lake.uri,
        "warehouse": lake.warehouse,
        "jdbc.schema-version": "V1",
        **({"jdbc.user": lake.user} if lake.user else {}),
        **({"jdbc.password": lake.password_file.read_text().strip()} if lake.password_file else {}),
        **lake.properties,
    }
    tables.execute_sql(f"CREATE CATALOG lake {with_clause(options)}")


def _create_topic_table(tables: StreamTableEnvironment, name: str, topic: str, kafka: Kafka, job_name: str) -> None:
    options = {
        **kafka_options(topic, kafka),
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "sink.delivery-guarantee": kafka.guarantee,
    }
    if kafka.guarantee == "exactly-once":
        options["sink.transactional-id-prefix"] = f"{job_name}-{topic}"
        options["properties.transaction.timeout.ms"] = str(kafka.transaction_timeout_ms)
    columns = "k STRING, v STRING, headers MAP<STRING, BYTES> METADATA"
    tables.execute_sql(f"CREATE TEMPORARY TABLE {name} ({columns}) {with_clause(options)}")
