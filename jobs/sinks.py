"""Sinks: the Iceberg tables and the Kafka topics, each fed by rows of one type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from jobs.settings import JobConfig
from jobs.sources import stable_uids
from operators.runtime.flink import SinkRows
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight, to_json
from state_schemas.contracts.rows import EdgeRow, PatternName, PatternRow, RollupRow
from state_schemas.contracts.settings import Kafka, Lake
from state_schemas.contracts.tables import ColumnType

NAMESPACE = "insights"


def _delta_row(row: RollupRow | EdgeRow | PatternRow | PatternName) -> Sequence[Any]:
    return msgspec.structs.astuple(row)


def _insight_row(insight: Insight) -> Sequence[Any]:
    plain = ("insight_id", "revision", "status", "kind", "env", "site_id", "service", "subject")
    judged = ("severity", "confidence", "cold_start", "title")
    return (
        f"{insight.env}|{insight.service}",
        *(getattr(insight, name) for name in plain),
        insight.window.start_ms,
        insight.window.end_ms,
        *(getattr(insight, name) for name in judged),
        to_json(insight).decode(),
    )


def _dead_letter_row(letter: DeadLetter) -> Sequence[Any]:
    body = msgspec.json.encode(letter if letter.payload else _without_payload(letter)).decode()
    return (f"{letter.topic}|{letter.partition}", body)


def _without_payload(letter: DeadLetter) -> dict[str, Any]:
    names = [name for name in letter.__struct_fields__ if name != "payload"]
    return {name: getattr(letter, name) for name in names}


def _columns(**types: ColumnType) -> tuple[tuple[str, ColumnType], ...]:
    return tuple(types.items())


ROLLUPS = SinkRows(
    "rollups",
    RollupRow,
    _columns(
        env="string",
        site_id="string",
        service="string",
        dimension="string",
        name="string",
        span_kind="string",
        resolution_s="int",
        window_start_ms="long",
        late="boolean",
        count="long",
        error_count="long",
        latency_ms_p50="double",
        latency_ms_p95="double",
        latency_ms_p99="double",
        sketch="binary",
    ),
    _delta_row,
)
EDGES = SinkRows(
    "edges",
    EdgeRow,
    _columns(
        env="string",
        site_id="string",
        service="string",
        callee="string",
        resolution_s="int",
        window_start_ms="long",
        late="boolean",
        count="long",
        error_count="long",
        latency_ms_p50="double",
        latency_ms_p95="double",
        latency_ms_p99="double",
        gap_ms_p50="double",
        gap_ms_p95="double",
        clock_skew_ms_p50="double",
        sketch="binary",
    ),
    _delta_row,
)
PATTERNS = SinkRows(
    "patterns",
    PatternRow,
    _columns(
        env="string",
        site_id="string",
        service="string",
        source="string",
        resolution_s="int",
        window_start_ms="long",
        late="boolean",
        rank="int",
        pattern_id="string",
        template="string",
        severity_number="int",
        count="long",
        total="long",
    ),
    _delta_row,
)
PATTERN_NAMES = SinkRows(
    "pattern-names",
    PatternName,
    _columns(
        env="string",
        service="string",
        source="string",
        pattern_id="string",
        template="string",
        first_seen_ms="long",
        alias_of="string",
        at_ms="long",
    ),
    _delta_row,
)
INSIGHTS = SinkRows(
    "insights",
    Insight,
    _columns(
        message_key="string",
        insight_id="string",
        revision="int",
        status="string",
        kind="string",
        env="string",
        site_id="string",
        service="string",
        subject="string",
        window_start_ms="long",
        window_end_ms="long",
        severity="string",
        confidence="double",
        cold_start="boolean",
        title="string",
        body="string",
    ),
    _insight_row,
)
DEAD_LETTERS = SinkRows("dead-letters", DeadLetter, _columns(message_key="string", body="string"), _dead_letter_row)


@dataclass(frozen=True)
class Insert:
    """One sink of the job. uid names its state in savepoints: it never changes and is never used again.

    sql: an INSERT with `{view}` where the rows of `rows` stand. topic: (name of the Kafka table, its topic by the
    settings) for a sink into Kafka, which is then declared before.
    """

    uid: str
    rows: SinkRows
    sql: str
    topic: tuple[str, Callable[[JobConfig], str]] | None = None


SHIPPED = (
    Insert(
        "lake-rollups",
        ROLLUPS,
        """INSERT INTO lake.insights.latency_rollups
           SELECT env, site_id, service, dimension, name, span_kind, resolution_s,
                  TO_TIMESTAMP_LTZ(window_start_ms, 3), late, `count`, error_count,
                  latency_ms_p50, latency_ms_p95, latency_ms_p99, sketch
           FROM {view}""",
    ),
    Insert(
        "lake-edges",
        EDGES,
        """INSERT INTO lake.insights.service_edges
           SELECT env, site_id, service, callee, resolution_s, TO_TIMESTAMP_LTZ(window_start_ms, 3), late,
                  `count`, error_count, latency_ms_p50, latency_ms_p95, latency_ms_p99,
                  gap_ms_p50, gap_ms_p95, clock_skew_ms_p50, sketch
           FROM {view}""",
    ),
    Insert(
        "lake-patterns",
        PATTERNS,
        """INSERT INTO lake.insights.error_patterns
           SELECT env, site_id, service, source, resolution_s, TO_TIMESTAMP_LTZ(window_start_ms, 3), late,
                  `rank`, pattern_id, template, severity_number, `count`, total
           FROM {view}""",
    ),
    Insert(
        "lake-pattern-names",
        PATTERN_NAMES,
        """INSERT INTO lake.insights.pattern_registry
           SELECT env, service, source, pattern_id, template, TO_TIMESTAMP_LTZ(first_seen_ms, 3), alias_of,
                  TO_TIMESTAMP_LTZ(at_ms, 3)
           FROM {view}""",
    ),
    Insert(
        "lake-insights",
        INSIGHTS,
        """INSERT INTO lake.insights.insights
           SELECT insight_id, revision, status, kind, env, site_id, service, subject,
                  TO_TIMESTAMP_LTZ(window_start_ms, 3), TO_TIMESTAMP_LTZ(window_end_ms, 3),
                  severity, confidence, cold_start, title, body
           FROM {view}""",
    ),
    Insert(
        "kafka-insights",
        INSIGHTS,
        """INSERT INTO insights_topic
           SELECT message_key, body, MAP[
               'ce_specversion', ENCODE('1.0', 'UTF-8'),
               'ce_id', ENCODE(insight_id || ':' || CAST(revision AS STRING), 'UTF-8'),
               'ce_source', ENCODE('/metric-reasoner/' || message_key, 'UTF-8'),
               'ce_type', ENCODE('metric-reasoner.insight.v1', 'UTF-8'),
               'content-type', ENCODE('application/json', 'UTF-8')]
           FROM {view}""",
        ("insights_topic", lambda config: config.kafka.topics.insights),
    ),
    Insert(
        "kafka-dead-letters",
        DEAD_LETTERS,
        """INSERT INTO rejected_topic
           SELECT message_key, body, MAP[
               'ce_specversion', ENCODE('1.0', 'UTF-8'),
               'ce_type', ENCODE('metric-reasoner.rejected.v1', 'UTF-8'),
               'content-type', ENCODE('application/json', 'UTF-8')]
           FROM {view}""",
        ("rejected_topic", lambda config: config.kafka.topics.rejected),
    ),
)


def rows_of(inserts: Sequence[Insert]) -> tuple[SinkRows, ...]:
    """What these sinks take, each kind of rows once, in their order."""
    return tuple({insert.rows.name: insert.rows for insert in inserts}.values())


def attach(
    tables: StreamTableEnvironment,
    streams: dict[str, list[DataStream]],
    config: JobConfig,
    inserts: Sequence[Insert] = SHIPPED,
) -> None:
    """Joins every sink that something flows to: its uids are stable, so that adding one moves no state of another."""
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
    tables.execute_sql(f"CREATE CATALOG lake WITH ({_options(options)})")


def _create_topic_table(tables: StreamTableEnvironment, name: str, topic: str, kafka: Kafka, job_name: str) -> None:
    options = {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": kafka.bootstrap_servers,
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "sink.delivery-guarantee": kafka.guarantee,
        **{f"properties.{key}": value for key, value in kafka.properties.items()},
    }
    if kafka.guarantee == "exactly-once":
        options["sink.transactional-id-prefix"] = f"{job_name}-{topic}"
        options["properties.transaction.timeout.ms"] = str(kafka.transaction_timeout_ms)
    columns = "k STRING, v STRING, headers MAP<STRING, BYTES> METADATA"
    tables.execute_sql(f"CREATE TEMPORARY TABLE {name} ({columns}) WITH ({_options(options)})")


def _options(options: dict[str, str]) -> str:
    return ", ".join("'{}'='{}'".format(key, value.replace("'", "''")) for key, value in options.items())
