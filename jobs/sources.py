"""Sources of the job: topics of OTLP messages as raw bytes, with partition, offset and a watermark by Kafka time.

Sinks share the options of their tables and the uids of the steps that Flink creates.
"""

from collections.abc import Mapping
from typing import Any, Final

from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from state_schemas.contracts.settings import Kafka
from state_schemas.telemetry.signals import SignalType

# Kafka's own defaults are for small messages: 1 MiB holds only three batches of spans, so the job waits for the broker.
_FETCH: Final = {"properties.max.partition.fetch.bytes": str(2 << 20), "properties.receive.buffer.bytes": "-1"}


def raw_messages(tables: StreamTableEnvironment, signal: SignalType, topic: str, kafka: Kafka) -> DataStream:
    """Return rows (value, partition, offset, ts).

    The watermark of each partition is its newest timestamp less out_of_order_ms.
    """
    name = f"{signal}_source"
    options = {
        **_FETCH,
        "format": "raw",
        "properties.group.id": kafka.group_id,
        "scan.startup.mode": f"{kafka.start}-offset",
        **({"scan.bounded.mode": "latest-offset"} if kafka.bounded else {}),
        **({"scan.watermark.idle-timeout": f"{kafka.idle_ms} ms"} if kafka.idle_ms else {}),
        **kafka_options(topic, kafka),
    }
    tables.execute_sql(f"""
        CREATE TEMPORARY TABLE {name} (
            v BYTES,
            p INT METADATA FROM 'partition' VIRTUAL,
            o BIGINT METADATA FROM 'offset' VIRTUAL,
            ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
            WATERMARK FOR ts AS ts - INTERVAL '{kafka.out_of_order_ms // 1000}' SECOND
        ) {with_clause(options)}""")
    stable_uids(tables, f"source-{signal}")
    return tables.to_data_stream(tables.sql_query(f"SELECT v, p, o, ts FROM {name}"))


def kafka_options(topic: str, kafka: Kafka) -> dict[str, str]:
    """Return the options of every Kafka table. `kafka.properties` come last, so they override the bootstrap servers."""
    return {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": kafka.bootstrap_servers,
        **{f"properties.{key}": value for key, value in kafka.properties.items()},
    }


def with_clause(options: Mapping[str, str]) -> str:
    """Return options as `WITH ('key'='value', ...)`. Quotes in them, for example in `sasl.jaas.config`, are escaped."""
    pairs = ", ".join(f"{_literal(key)}={_literal(value)}" for key, value in options.items())
    return f"WITH ({pairs})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def stable_uids(tables: Any, prefix: str) -> None:
    """Set the uids of the statements that are translated next.

    They differ by prefix, so a further sink or source changes no uid of the others.
    """
    tables.get_config().set("table.exec.uid.format", f"{prefix}-<type>_<transformation>")
