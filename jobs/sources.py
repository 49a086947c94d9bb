"""Sources: topics of OTLP messages as raw bytes with partition, offset and a watermark from the Kafka timestamp."""

from typing import Any, Final

from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from state_schemas.contracts.settings import Kafka
from state_schemas.telemetry.signals import SignalType

# Kafka's own defaults are for small messages: 1 MiB is three batches of spans, and the job waits for the broker.
_PROPERTIES: Final = {"max.partition.fetch.bytes": str(2 << 20), "receive.buffer.bytes": "-1"}


def raw_messages(tables: StreamTableEnvironment, signal: SignalType, topic: str, kafka: Kafka) -> DataStream:
    """Rows (value, partition, offset, ts). Watermarks are per partition: its newest timestamp - out_of_order_ms."""
    name = f"{signal}_source"
    given = {**_PROPERTIES, **kafka.properties}
    properties = "".join(f", 'properties.{key}'='{value}'" for key, value in sorted(given.items()))
    bounded = ", 'scan.bounded.mode'='latest-offset'" if kafka.bounded else ""
    idle = f", 'scan.watermark.idle-timeout'='{kafka.idle_ms} ms'" if kafka.idle_ms else ""
    tables.execute_sql(f"""
        CREATE TEMPORARY TABLE {name} (
            v BYTES,
            p INT METADATA FROM 'partition' VIRTUAL,
            o BIGINT METADATA FROM 'offset' VIRTUAL,
            ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
            WATERMARK FOR ts AS ts - INTERVAL '{kafka.out_of_order_ms // 1000}' SECOND
        ) WITH (
            'connector'='kafka', 'format'='raw', 'topic'='{topic}',
            'properties.bootstrap.servers'='{kafka.bootstrap_servers}', 'properties.group.id'='{kafka.group_id}',
            'scan.startup.mode'='{kafka.start}-offset'{bounded}{idle}{properties}
        )""")
    stable_uids(tables, f"source-{signal}")
    return tables.to_data_stream(tables.sql_query(f"SELECT v, p, o, ts FROM {name}"))


def stable_uids(tables: Any, prefix: str) -> None:
    """Uids of what is translated next. Kept apart by name, so that a further sink or source moves none of them."""
    tables.get_config().set("table.exec.uid.format", f"{prefix}-<type>_<transformation>")
