"""Sinks of the job: the Iceberg tables and the Kafka topics; rows of one type go into each of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from jobs.settings import JobConfig
from jobs.table_sql import kafka_options, with_clause
from operators.runtime.routing import SinkRows
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight, to_json
from state_schemas.contracts.tables import (
    ERROR_PATTERNS,
    INSIGHTS,
    LATENCY_ROLLUPS,
    NAMESPACE,
    PATTERN_REGISTRY,
    SEQUENCE_MATCHES,
    SERVICE_EDGES,
    Column,
    TableSpec,
)
from udfs.insights.ids import service_key, service_of


def _insight_row(insight: Insight) -> Sequence[Any]:
    window = {"window_start_ms": insight.window.start_ms, "window_end_ms": insight.window.end_ms}
    fields = {**msgspec.structs.asdict(insight), **window, "body": to_json(insight).decode()}
    return (service_key(insight.env, service_of(insight)), *(fields[name] for name, _ in INSIGHTS.fields))


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
    - table: only for a sink outside the lake: returns the CREATE TEMPORARY TABLE of its table from the settings.
    """

    uid: str
    rows: SinkRows
    sql: str
    table: Callable[[JobConfig], str] | None = None


def topic_table(name: str, topic_of: Callable[[JobConfig], str]) -> Callable[[JobConfig], str]:
    """Return the `table` of a sink into Kafka: key, value and headers of a message.

    topic_of: returns the topic from the settings.
    """

    def declared(config: JobConfig) -> str:
        kafka, topic = config.kafka, topic_of(config)
        options = {
            **kafka_options(topic, kafka),
            "key.format": "raw",
            "key.fields": "k",
            "value.format": "raw",
            "value.fields-include": "EXCEPT_KEY",
            "sink.delivery-guarantee": kafka.guarantee,
        }
        if kafka.guarantee == "exactly-once":
            options["sink.transactional-id-prefix"] = f"{config.name}-{topic}"
            options["properties.transaction.timeout.ms"] = str(kafka.transaction_timeout_ms)
        columns = "k STRING, v STRING, headers MAP<STRING, BYTES> METADATA"
        return f"CREATE TEMPORARY TABLE {name} ({columns}) {with_clause(options)}"

    return declared


def _table_insert(uid: str, spec: TableSpec, rows: SinkRows) -> Insert:
    """Build the INSERT of a table.

    It names the columns: a table to which columns were added may have them in another order.
    """
    columns = ", ".join(f"`{column.name}`" for column in spec.columns)
    values = ", ".join(_value(column) for column in spec.columns)
    return Insert(uid, rows, f"INSERT INTO lake.{NAMESPACE}.{spec.name} ({columns}) SELECT {values} FROM {{view}}")


def _rows_insert(uid: str, spec: TableSpec, name: str) -> Insert:
    """Build the INSERT of a table whose rows are those of its struct, field by field."""
    assert spec.row is not None, f"{spec.name} has no row struct, so it needs SinkRows of its own"
    return _table_insert(uid, spec, SinkRows(name, spec.row, spec.fields, msgspec.structs.astuple))


def _value(column: Column) -> str:
    field, _ = column.field
    return f"TO_TIMESTAMP_LTZ(`{field}`, 3)" if column.type == "timestamptz" else f"`{field}`"


def _event_sql(table: str, **attributes: str) -> str:
    """Build the INSERT of a Kafka table of JSON.

    attributes: CloudEvents attributes as SQL expressions over the rows.
    """
    headers = {"ce_specversion": "'1.0'", **attributes, "content-type": "'application/json'"}
    pairs = ", ".join(f"'{name}', ENCODE({value}, 'UTF-8')" for name, value in headers.items())
    return f"INSERT INTO {table} SELECT message_key, body, MAP[{pairs}] FROM {{view}}"


SHIPPED = (
    _rows_insert("lake-rollups", LATENCY_ROLLUPS, "rollups"),
    _rows_insert("lake-edges", SERVICE_EDGES, "edges"),
    _rows_insert("lake-patterns", ERROR_PATTERNS, "patterns"),
    _rows_insert("lake-pattern-names", PATTERN_REGISTRY, "pattern-names"),
    _table_insert("lake-insights", INSIGHTS, INSIGHT_REVISIONS),
    _rows_insert("lake-sequence-matches", SEQUENCE_MATCHES, "sequence-matches"),
    Insert(
        "kafka-insights",
        INSIGHT_REVISIONS,
        _event_sql(
            "insights_topic",
            ce_id="insight_id || ':' || CAST(revision AS STRING)",
            ce_source="'/metric-reasoner/' || message_key",
            ce_type="'metric-reasoner.insight.v1'",
        ),
        topic_table("insights_topic", lambda config: config.kafka.topics.insights),
    ),
    Insert(
        "kafka-dead-letters",
        DEAD_LETTERS,
        _event_sql("rejected_topic", ce_type="'metric-reasoner.rejected.v1'"),
        topic_table("rejected_topic", lambda config: config.kafka.topics.rejected),
    ),
)


def rows_of(inserts: Sequence[Insert]) -> tuple[SinkRows, ...]:
    """Return the rows that these sinks take, each kind once, in the order of the sinks."""
    return tuple({insert.rows.name: insert.rows for insert in inserts}.values())
