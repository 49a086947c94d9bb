"""Sources read the topics according to the settings. No JVM is started."""

from typing import Any

import pytest

from jobs.sources import raw_messages
from state_schemas.contracts.settings import Kafka
from tests.support.fake_tables import FakeStream, FakeTables


def declared(**settings: Any) -> FakeTables:
    tables = FakeTables()
    raw_messages(tables, "traces", "trace_events", Kafka(**settings))
    return tables


def options(**settings: Any) -> dict[str, str]:
    return declared(**settings).options("traces_source")


@pytest.mark.parametrize("seconds", [0, 5, 99])
def test_the_watermark_is_behind_the_timestamp_by_out_of_order_ms(seconds: int) -> None:
    ddl = declared(out_of_order_ms=1_000 * seconds).statements[0]
    assert f"WATERMARK FOR ts AS ts - INTERVAL '{seconds}' SECOND\n" in ddl
    assert "ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL" in ddl


def test_a_silent_partition_is_idle_after_idle_ms_and_never_where_that_is_0() -> None:
    assert options(idle_ms=1_234)["scan.watermark.idle-timeout"] == "1234 ms"
    assert "scan.watermark.idle-timeout" not in options(idle_ms=0)
    assert "scan.watermark.idle-timeout" not in options(idle_ms=1_234, bounded=True)


def test_reading_starts_where_the_settings_say_and_ends_where_it_is_bounded() -> None:
    modes = {start: options(start=start)["scan.startup.mode"] for start in ("committed", "earliest", "latest")}
    assert modes == {"committed": "group-offsets", "earliest": "earliest-offset", "latest": "latest-offset"}
    assert options()["scan.startup.mode"] == "group-offsets", "submitted again, nothing counts twice"
    assert options()["properties.auto.offset.reset"] == "earliest", "a group without offsets reads everything"
    assert "scan.bounded.mode" not in options()
    assert options(bounded=True)["scan.bounded.mode"] == "latest-offset"


def test_quotes_in_settings_survive() -> None:
    login = "org.apache.kafka.PlainLoginModule required password='it''s' user=\"o'neill\";"
    properties = {"sasl.jaas.config": login}
    found = options(bootstrap_servers="a'b:9092", group_id="team's", properties=properties)
    assert found["properties.sasl.jaas.config"] == login
    assert found["properties.bootstrap.servers"] == "a'b:9092"
    assert found["properties.group.id"] == "team's"
    tables = FakeTables()
    raw_messages(tables, "logs", "logs'raw", Kafka())
    assert tables.options("logs_source")["topic"] == "logs'raw"


def test_properties_of_the_settings_win_over_those_of_the_job() -> None:
    assert options()["properties.max.partition.fetch.bytes"] == "2097152"
    given = {"max.partition.fetch.bytes": "7", "group.id": "other"}
    found = options(properties=given)
    assert (found["properties.max.partition.fetch.bytes"], found["properties.group.id"]) == ("7", "other")


def test_rows_are_value_partition_offset_and_timestamp_under_uids_of_their_own() -> None:
    """FoldMessages reads the fields of a row by index."""
    tables = FakeTables()
    stream = raw_messages(tables, "metrics", "metrics_rollup", Kafka())
    assert stream == FakeStream(("SELECT v, p, o, ts FROM metrics_source",))
    assert tables.settings["table.exec.uid.format"] == "source-metrics-<type>_<transformation>"
    for column in ("v BYTES", "p INT METADATA FROM 'partition' VIRTUAL", "o BIGINT METADATA FROM 'offset' VIRTUAL"):
        assert column in tables.statements[0]
