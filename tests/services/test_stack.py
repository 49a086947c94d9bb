"""The real components start, serve, keep their data over a restart, and leave no process running after a stop."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaTimeoutError

from reasoner.clients.flink_rest import FlinkRest
from reasoner.stack import StackSettings, running
from reasoner.stack.process import OWNER_VARIABLE
from reasoner.waiting import wait_until
from tests.support.components import FlinkCluster, PostgresUrls, skip_unless_set_up, skip_without_postgres

pytestmark = pytest.mark.services

# Milliseconds of the year 2200: a broker with default settings refuses it.
YEAR_2200_MS = 7_258_118_400_000


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of all running processes with the mark of a component under this folder."""
    mark = f"{OWNER_VARIABLE}={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@contextmanager
def closing_producer(bootstrap: str) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    try:
        yield producer
    finally:
        producer.close()


def make_topic(bootstrap: str, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        admin.close()


def read_one(bootstrap: str, topic: str) -> tuple[bytes, int]:
    """Return value and timestamp of the first record of the topic."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=30_000)
    try:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek_to_beginning()
        record = next(iter(consumer))
        return record.value, record.timestamp
    finally:
        consumer.close()


def test_kafka_keeps_records_over_a_restart_and_leaves_nothing_running(stack_settings: StackSettings) -> None:
    """Catch a data folder that is formatted again at each start."""
    skip_unless_set_up()
    with running(stack_settings, ["kafka"]) as stack:
        make_topic(stack.settings.kafka_bootstrap, "kept")
        with closing_producer(stack.settings.kafka_bootstrap) as producer:
            producer.send("kept", b"first life").get(timeout=30)
    assert processes_of(stack_settings.folder) == []
    with running(stack_settings, ["kafka"]) as stack:
        assert read_one(stack.settings.kafka_bootstrap, "kept")[0] == b"first life"
    assert processes_of(stack_settings.folder) == []


def test_kafka_takes_a_future_timestamp_and_a_message_of_8_mb(kafka: str) -> None:
    make_topic(kafka, "wide")
    producer = KafkaProducer(bootstrap_servers=kafka, max_request_size=16_000_000)
    try:
        producer.send("wide", bytes(8_000_000), timestamp_ms=YEAR_2200_MS).get(timeout=30)
    finally:
        producer.close()
    value, timestamp_ms = read_one(kafka, "wide")
    assert (len(value), timestamp_ms) == (8_000_000, YEAR_2200_MS)


def test_kafka_refuses_a_topic_that_was_not_created(kafka: str) -> None:
    """A misspelt topic must not be created with one partition and the wrong retention."""
    producer = KafkaProducer(bootstrap_servers=kafka, max_block_ms=2_000)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    try:
        with pytest.raises(KafkaTimeoutError):
            producer.send("misspelt", b"x")
        assert "misspelt" not in admin.list_topics()
    finally:
        admin.close()
        producer.close()


def test_postgres_answers_keeps_rows_and_leaves_nothing_running(stack_settings: StackSettings) -> None:
    skip_without_postgres()
    with running(stack_settings, ["postgres"]) as stack:
        run_sql(stack.settings.postgres_sqlalchemy_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with running(stack_settings, ["postgres"]) as stack:
        assert run_sql(stack.settings.postgres_sqlalchemy_url, "SELECT answer FROM kept") == 42
    assert processes_of(stack_settings.folder) == []


def test_postgres_offers_the_database_of_the_lake(postgres: PostgresUrls) -> None:
    assert run_sql(postgres.sqlalchemy, "SELECT current_database()") == "lake"
    assert postgres.jdbc.startswith("jdbc:postgresql://127.0.0.1:")


def run_sql(url: str, statement: str) -> object:
    """Run a statement; return the first value of its first row, None for a statement without rows."""
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(sqlalchemy.text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def test_flink_has_two_taskmanagers_and_survives_the_loss_of_one(flink_cluster: FlinkCluster) -> None:
    def taskmanagers() -> tuple[int, int]:
        answer = FlinkRest(flink_cluster.rest_url).get("/overview")
        return answer["taskmanagers"], answer["slots-total"]

    assert taskmanagers() == (2, 4)
    killed = flink_cluster.kill_taskmanager(1)
    # Start at once, while REST may still list the killed one: the start must wait for the new one.
    flink_cluster.start_taskmanager(1)
    record = flink_cluster.stack.supervisor.record("flink-taskmanager-1")
    assert record is not None
    assert record.pid != killed
    wait_until(lambda: taskmanagers() == (2, 4), "the dead TaskManager is forgotten, the new one counted", 60.0)
