"""The rules topic: the rules that it publishes when a job is submitted, and its source in the job."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyflink.datastream import DataStream
from pyflink.java_gateway import get_gateway
from pyflink.table import StreamTableEnvironment

from jobs.table_sql import kafka_options, stable_uids, with_clause
from state_schemas.aggregates.published_rules import RuleRecord, TopicAtStart
from state_schemas.contracts.settings import BadConfig, Kafka
from state_schemas.telemetry.message import KafkaPosition
from udfs.rules.publishing import published_rules

ANSWER_MS: Final = 10_000  # for one answer of the broker; a healthy one needs some ms
NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"  # of each topic of a broker that gives topics no ids
SILENT_POLLS_MAX: Final = 2
IDLE_MS: Final = 1_000  # without a rule for so long, the topic does not hold event time back
_SHADED: Final = "org.apache.flink.kafka.shaded.org.apache.kafka"


def topic_at_start(kafka: Kafka) -> TopicAtStart:
    """Read the topic, so that a job has its rules before its first record.

    Read with the client and the properties of the job itself. Raises BadConfig where the topic cannot be read.
    """
    topic = kafka.topics.rules
    try:
        with _consumer(kafka) as consumer:
            part, end_offset = _end_of(consumer, topic)
            topic_id = _topic_id(kafka, topic)
            records = _records(consumer, part, end_offset, topic_id)
            return TopicAtStart(tuple(published_rules(records).values()), end_offset, topic_id)
    except Py4JJavaError as error:
        message = f"kafka.topics.rules: {topic} cannot be read: {error.java_exception}; check kafka and that it runs"
        raise BadConfig(message) from error


def rule_records(tables: StreamTableEnvironment, kafka: Kafka, end_offset: int) -> DataStream:
    """Return rows (key, value, partition, offset, ts, topic) of the topic from an offset on, or where the state is.

    Event time stands at 0: where all inputs of a step are idle, Flink takes the latest of their times, so that a later
    one would pass for that of the telemetry.
    """
    options = {
        "format": "raw",
        "key.format": "raw",
        "key.fields": "k",
        "value.fields-include": "EXCEPT_KEY",
        "properties.group.id": kafka.group_id,
        "properties.isolation.level": "read_committed",
        "scan.startup.mode": "specific-offsets",
        "scan.startup.specific-offsets": f"partition:0,offset:{end_offset}",
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
            t STRING METADATA FROM 'topic' VIRTUAL,
            WATERMARK FOR ts AS TO_TIMESTAMP_LTZ(0, 3)
        ) {with_clause(options)}""")
    stable_uids(tables, "source-rules")
    return tables.to_data_stream(tables.sql_query("SELECT k, v, p, o, ts, t FROM rules_source"))


@contextmanager
def _consumer(kafka: Kafka) -> Iterator[Any]:
    reading = {"enable.auto.commit": "false", "allow.auto.create.topics": "false", "isolation.level": "read_committed"}
    properties = _properties(kafka, reading)
    for part in ("key", "value"):
        properties.setProperty(f"{part}.deserializer", f"{_SHADED}.common.serialization.ByteArrayDeserializer")
    clients = get_gateway().jvm.org.apache.flink.kafka.shaded.org.apache.kafka.clients
    consumer = clients.consumer.KafkaConsumer(properties)
    try:
        yield consumer
    finally:
        consumer.close()


def _properties(kafka: Kafka, more: Mapping[str, str]) -> Any:
    """Return Java's properties of a client of the brokers."""
    properties = get_gateway().jvm.java.util.Properties()
    settings = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "default.api.timeout.ms": str(ANSWER_MS),
        "request.timeout.ms": str(ANSWER_MS),
        **more,
        **kafka.properties,
    }
    for name, value in settings.items():
        properties.setProperty(name, value)
    return properties


def _topic_id(kafka: Kafka, topic: str) -> str:
    """Return Kafka's id of a topic, which one that is created anew under its name does not have; "" if unknown."""
    jvm = get_gateway().jvm
    clients = jvm.org.apache.flink.kafka.shaded.org.apache.kafka.clients
    admin = clients.admin.AdminClient.create(_properties(kafka, {}))
    try:
        described = admin.describeTopics(jvm.java.util.Collections.singletonList(topic)).allTopicNames().get()
        return known_id(str(described[topic].topicId().toString()))
    finally:
        admin.close()


def known_id(topic_id: str) -> str:
    """Return an id of a topic, "" for that of all topics without one."""
    return "" if topic_id == NO_ID else topic_id


def _end_of(consumer: Any, topic: str) -> tuple[Any, int]:
    """Return the partition of the topic, which has one so that its records have one order, and its end."""
    infos = consumer.partitionsFor(topic) or ()
    if len(infos) != 1:
        found = f"{topic} with {len(infos)} partitions" if len(infos) else f"no topic {topic}"
        message = f"kafka.topics.rules: found {found}, expected one partition: `reasoner topics create` makes it"
        raise BadConfig(message)
    jvm = get_gateway().jvm
    part = jvm.org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition(topic, 0)
    parts = jvm.java.util.Collections.singletonList(part)
    consumer.assign(parts)
    consumer.seekToBeginning(parts)
    return part, consumer.endOffsets(parts)[part]


def _records(consumer: Any, part: Any, end_offset: int, topic_id: str) -> Iterator[RuleRecord]:
    """Yield the records up to an offset, in order."""
    duration, silent = get_gateway().jvm.java.time.Duration.ofMillis(ANSWER_MS // 2), 0
    while consumer.position(part) < end_offset:
        polled = consumer.poll(duration)
        silent = 0 if polled.count() else silent + 1
        if silent == SILENT_POLLS_MAX:
            message = f"kafka.topics.rules: the records of {part.topic()} do not come: check that the broker runs"
            raise BadConfig(message)
        for record in polled.iterator():
            at = KafkaPosition(record.topic(), record.partition(), record.offset(), record.timestamp())
            yield RuleRecord.at(at, record.key(), record.value(), topic_id)
