"""Sources of the job: topics of OTLP messages as raw bytes, with partition, offset and a watermark by Kafka time."""

from typing import Final, Literal

from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from jobs.table_sql import kafka_options, stable_uids, with_clause
from state_schemas.contracts.settings import Kafka
from state_schemas.telemetry.signals import SignalType

# Kafka's own defaults are for small messages: 1 MiB holds only three batches of spans, so the job waits for the broker.
_FETCH: Final = {"properties.max.partition.fetch.bytes": str(2 << 20), "properties.receive.buffer.bytes": "-1"}
_STARTUP_MODES: Final = {"committed": "group-offsets", "earliest": "earliest-offset", "latest": "latest-offset"}


def raw_messages(
    tables: StreamTableEnvironment, signal: SignalType | Literal["insights"], topic: str, kafka: Kafka
) -> DataStream:
    """Return rows (value, partition, offset, ts); of insights those that are committed.

    The watermark of each partition is its newest timestamp less out_of_order_ms. In a bounded job none is idle: each
    ends, and beside a source that has ended, an idle one would let event time go to its end before its last messages.
    """
    name = f"{signal}_source"
    options = {
        **_FETCH,
        "format": "raw",
        "properties.group.id": kafka.group_id,
        "properties.isolation.level": "read_committed",
        "scan.startup.mode": _STARTUP_MODES[kafka.start],
        "properties.auto.offset.reset": "latest" if kafka.start == "latest" else "earliest",
        **({"scan.bounded.mode": "latest-offset"} if kafka.bounded else {}),
        **({"scan.watermark.idle-timeout": f"{kafka.idle_ms} ms"} if kafka.idle_ms and not kafka.bounded else {}),
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
