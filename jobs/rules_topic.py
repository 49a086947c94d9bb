"""The rules topic: the rules that it publishes when a job is submitted, and its source in the job."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyflink.datastream import DataStream
from pyflink.java_gateway import get_gateway
from pyflink.table import StreamTableEnvironment

from jobs.table_sql import kafka_options, stable_uids, with_clause
from state_schemas.aggregates.published_rules import PublishedRule, RuleRecord
from state_schemas.contracts.settings import BadConfig, Kafka
from udfs.rules.publishing import published_rules

ANSWER_MS: Final = 10_000  # for one answer of the broker; a healthy one needs some ms
IDLE_MS: Final = 1_000  # without a rule for so long, the topic does not hold event time back
_END_OF_TIME_MS: Final = 253_402_300_799_000  # in the year 9999: rules hold no event time back
_SHADED: Final = "org.apache.flink.kafka.shaded.org.apache.kafka"


def published_at_start(kafka: Kafka) -> tuple[PublishedRule, ...]:
    """Return the rules of the topic as it is now, so that a job has them before its first record.

    Read with the client and the properties of the job itself. Raises BadConfig where the topic cannot be read.
    """
    try:
        with _consumer(kafka) as consumer:
            return tuple(published_rules(_records(consumer, kafka.topics.rules)).values())
    except Py4JJavaError as error:
        message = (
            f"kafka.topics.rules: {kafka.topics.rules} cannot be read: {error.java_exception}; create it with "
            "`reasoner topics create`, or leave the name empty"
        )
        raise BadConfig(message) from error


def rule_records(tables: StreamTableEnvironment, kafka: Kafka) -> DataStream:
    """Return rows (key, value, partition, offset, ts) of the topic from its beginning."""
    options = {
        "format": "raw",
        "key.format": "raw",
        "key.fields": "k",
        "value.fields-include": "EXCEPT_KEY",
        "properties.group.id": kafka.group_id,
        "scan.startup.mode": "earliest-offset",
        **({"scan.bounded.mode": "latest-offset"} if kafka.bounded else {}),
        "scan.watermark.idle-timeout": f"{IDLE_MS} ms",
        **kafka_options(kafka.topics.rules, kafka),
    }
    tables.execute_sql(f"""
        CREATE TEMPORARY TABLE rules_source (
            k BYTES,
            v BYTES,
            p INT METADATA FROM 'partition' VIRTUAL,
            o BIGINT METADATA FROM 'offset' VIRTUAL,
            ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
            WATERMARK FOR ts AS TO_TIMESTAMP_LTZ({_END_OF_TIME_MS}, 3)
        ) {with_clause(options)}""")
    stable_uids(tables, "source-rules")
    return tables.to_data_stream(tables.sql_query("SELECT k, v, p, o, ts FROM rules_source"))


@contextmanager
def _consumer(kafka: Kafka) -> Iterator[Any]:
    jvm = get_gateway().jvm
    properties = jvm.java.util.Properties()
    settings = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "enable.auto.commit": "false",
        "allow.auto.create.topics": "false",
        "isolation.level": "read_committed",
        "default.api.timeout.ms": str(ANSWER_MS),
        "request.timeout.ms": str(ANSWER_MS),
        **kafka.properties,
    }
    for name, value in settings.items():
        properties.setProperty(name, value)
    for part in ("key", "value"):
        properties.setProperty(f"{part}.deserializer", f"{_SHADED}.common.serialization.ByteArrayDeserializer")
    consumer = jvm.org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.KafkaConsumer(properties)
    try:
        yield consumer
    finally:
        consumer.close()


def _records(consumer: Any, topic: str) -> Iterator[RuleRecord]:
    """Yield the records up to the end that the topic has now, of each partition in order."""
    jvm = get_gateway().jvm
    infos = consumer.partitionsFor(topic) or ()
    if not len(infos):
        message = f"kafka.topics.rules: Kafka has no topic {topic}: create it with `reasoner topics create`"
        raise BadConfig(message)
    parts = jvm.java.util.ArrayList()
    for info in infos:
        parts.add(jvm.org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition(topic, info.partition()))
    consumer.assign(parts)
    consumer.seekToBeginning(parts)
    ends = {part.partition(): (part, end) for part, end in consumer.endOffsets(parts).items()}
    while any(consumer.position(part) < end for part, end in ends.values()):
        for record in consumer.poll(jvm.java.time.Duration.ofMillis(ANSWER_MS)).iterator():
            key, value = record.key(), record.value()
            yield RuleRecord(
                topic,
                record.partition(),
                record.offset(),
                record.timestamp(),
                bytes(key or b"").decode(errors="replace"),
                None if value is None else bytes(value),
            )
