"""Sinks write each field under its own name. No JVM is started: SQLite reads what Flink would read."""

import json
import sqlite3
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from jobs.flink_tables import attach
from jobs.settings import JobConfig
from jobs.sinks import DEAD_LETTERS, INSIGHT_REVISIONS, SHIPPED, Insert, rows_of
from operators.runtime.flink import sink_tag
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import to_json
from state_schemas.contracts.tables import INSIGHTS, LATENCY_ROLLUPS, TABLES, ColumnType, RollupRow, TableSpec
from tests.support.fake_tables import FakeStream, FakeTables
from tests.support.outputs import INSIGHT, LETTER

TABLE_SINKS = [(insert, spec) for insert in SHIPPED for spec in TABLES if f".{spec.name} " in insert.sql]
DERIVED = [(insert, spec) for insert, spec in TABLE_SINKS if spec.row]
PYTHON_TYPES: dict[ColumnType, type] = {
    "string": str,
    "int": int,
    "long": int,
    "timestamptz": int,
    "double": float,
    "boolean": bool,
    "binary": bytes,
}
BODY = to_json(INSIGHT).decode()


def value_of(index: int, name: str, kind: ColumnType) -> Any:
    """Make a value that no other field of the row has."""
    values = {"string": f"of {name}", "boolean": True, "double": index + 0.5, "binary": bytes((index,))}
    return values.get(kind, 1_000 + index)


def written(insert: Insert, columns: list[str], output: Any) -> dict[str, Any]:
    """Run the INSERT of an output in SQLite, into a table of these columns; return the value of each column."""
    database = sqlite3.connect(":memory:")
    database.create_function("TO_TIMESTAMP_LTZ", 2, lambda ms, precision: f"{ms} ms" if precision == 3 else None)
    database.create_function("ENCODE", 2, lambda text, charset: str(text) if charset == "UTF-8" else None)
    table = insert.sql.split()[2]
    sql = insert.sql.replace(table, "written", 1).replace("MAP[", "json_array(").replace("]", ")")
    names = ", ".join(f"`{name}`" for name, _ in insert.rows.columns)
    row = insert.rows.to_row(output)
    database.execute(f"CREATE TABLE written ({', '.join(f'`{name}`' for name in columns)})")
    database.execute(f"CREATE TABLE fed ({names})")
    database.execute(f"INSERT INTO fed VALUES ({', '.join('?' * len(row))})", row)
    database.execute(sql.format(view="fed"))
    (found,) = database.execute("SELECT * FROM written").fetchall()
    return dict(zip(columns, found, strict=True))


def attached(inserts: tuple[Insert, ...] = SHIPPED, **settings: Any) -> FakeTables:
    """Attach the sinks, with a stream for each."""
    tables = FakeTables()
    config = JobConfig.model_validate({"lake": {"uri": "jdbc:sqlite:x.db", "warehouse": "file:///w"}, **settings})
    streams = {rows.name: [FakeStream((rows.name,))] for rows in rows_of(SHIPPED)}
    attach(tables, streams, config, inserts)
    return tables


def headers(insert: Insert, output: Any) -> dict[str, str]:
    pairs = json.loads(written(insert, ["k", "v", "headers"], output)["headers"])
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def shipped(uid: str) -> Insert:
    (insert,) = (insert for insert in SHIPPED if insert.uid == uid)
    return insert


def test_every_table_has_one_sink() -> None:
    assert sorted(spec.name for _, spec in TABLE_SINKS) == sorted(spec.name for spec in TABLES)


@pytest.mark.parametrize(("insert", "spec"), DERIVED, ids=lambda value: getattr(value, "uid", ""))
def test_a_row_is_written_under_the_names_of_its_fields(insert: Insert, spec: TableSpec) -> None:
    """The table has its columns in another order, as after a schema change."""
    assert spec.row is not None
    fields = spec.row.__struct_fields__
    kinds = {column.name + "_ms" * (column.type == "timestamptz"): column.type for column in spec.columns}
    row = spec.row(**{name: value_of(index, name, kinds[name]) for index, name in enumerate(fields)})
    found = written(insert, sorted(column.name for column in spec.columns), row)
    for column in spec.columns:
        is_time = column.type == "timestamptz"
        expected = f"{getattr(row, column.name + '_ms')} ms" if is_time else getattr(row, column.name)
        assert found[column.name] == expected, column.name


def test_quantiles_of_a_roll_up_stand_in_their_own_columns() -> None:
    row = RollupRow("e", "s", "v", "service", "", "server", 10, 0, False, 9, 1, 50.0, 95.0, 99.0, b"", "n")
    found = written(shipped("lake-rollups"), [column.name for column in LATENCY_ROLLUPS.columns], row)
    assert [found[f"latency_ms_p{quantile}"] for quantile in (50, 95, 99)] == [50.0, 95.0, 99.0]


@pytest.mark.parametrize(("insert", "spec"), TABLE_SINKS, ids=lambda value: getattr(value, "uid", ""))
def test_rows_for_flink_have_the_fields_of_the_table(insert: Insert, spec: TableSpec) -> None:
    rows = insert.rows
    key = ["message_key"] if rows is INSIGHT_REVISIONS else []
    expected = key + [column.name + "_ms" * (column.type == "timestamptz") for column in spec.columns]
    assert [name for name, _ in rows.columns] == expected
    assert sink_tag(rows).type_info.get_field_names() == expected
    assert sink_tag(rows).tag_id == rows.name


@pytest.mark.parametrize("spec", [spec for spec in TABLES if spec.row], ids=lambda spec: str(spec.name))
def test_fields_of_a_row_have_the_types_of_the_columns(spec: TableSpec) -> None:
    found = list(get_type_hints(spec.row).values())
    assert found == [PYTHON_TYPES[column.type] for column in spec.columns]


def test_an_insight_is_written_under_the_names_of_its_fields() -> None:
    found = written(shipped("lake-insights"), sorted(column.name for column in INSIGHTS.columns), INSIGHT)
    plain = msgspec.structs.asdict(INSIGHT)
    expected = {name: value for name, value in plain.items() if name in found}
    times = {"window_start": "10000 ms", "window_end": "20000 ms"}
    assert found == {**expected, **times, "body": BODY}


def test_an_insight_on_kafka_has_its_key_its_body_and_headers_of_cloud_events() -> None:
    insert = shipped("kafka-insights")
    found = written(insert, ["k", "v", "headers"], INSIGHT)
    assert (found["k"], found["v"]) == ("prod|cart", BODY)
    assert headers(insert, INSIGHT) == {
        "ce_specversion": "1.0",
        "ce_id": f"{'1f' * 16}:3",
        "ce_source": "/metric-reasoner/prod|cart",
        "ce_type": "metric-reasoner.insight.v1",
        "content-type": "application/json",
    }


def test_a_dead_letter_holds_no_payload_unless_the_fold_kept_it() -> None:
    """The fold keeps the payload if `detection.dead_letter_payload` is set."""
    fields = {name: getattr(LETTER, name) for name in LETTER.__struct_fields__ if name != "payload"}
    key, body = DEAD_LETTERS.to_row(LETTER)
    assert (key, json.loads(body)) == ("trace_events|1", fields)
    _, body = DEAD_LETTERS.to_row(DeadLetter(**fields, payload=b"\x0a\xff"))
    assert json.loads(body) == {**fields, "payload": "Cv8="}


def test_a_dead_letter_on_kafka_has_headers_of_cloud_events() -> None:
    assert headers(shipped("kafka-dead-letters"), LETTER) == {
        "ce_specversion": "1.0",
        "ce_type": "metric-reasoner.rejected.v1",
        "content-type": "application/json",
    }


def test_quotes_in_settings_survive(tmp_path: Path) -> None:
    login = "org.apache.kafka.PlainLoginModule required password='it''s' user=\"o'neill\";"
    password = tmp_path / "password"
    password.write_text("pass'word\n")
    lake = {"uri": "jdbc:sqlite:o'neill.db", "warehouse": "file:///w", "password_file": password}
    topics = {"insights": "team's"}
    kafka = {"bootstrap_servers": "a'b:9092", "topics": topics, "properties": {"sasl.jaas.config": login}}
    tables = attached(lake=lake, kafka=kafka)
    found = tables.options("insights_topic")
    assert found["properties.sasl.jaas.config"] == login
    assert found["properties.bootstrap.servers"] == "a'b:9092"
    assert found["topic"] == "team's"
    assert found["sink.transactional-id-prefix"] == "insights-team's"
    catalog = tables.options("lake")
    assert (catalog["uri"], catalog["jdbc.password"]) == ("jdbc:sqlite:o'neill.db", "pass'word")


def test_only_exactly_once_has_transactions() -> None:
    found = attached(kafka={"transaction_timeout_ms": 7_000_000}).options("rejected_topic")
    assert found["sink.delivery-guarantee"] == "exactly-once"
    assert found["sink.transactional-id-prefix"] == "insights-insight_rejected"
    assert found["properties.transaction.timeout.ms"] == "7000000"
    found = attached(kafka={"guarantee": "at-least-once"}).options("rejected_topic")
    assert found["sink.delivery-guarantee"] == "at-least-once"
    assert not [key for key in found if "transaction" in key]


def test_each_sink_reads_the_view_of_its_rows_under_a_uid_of_its_own() -> None:
    tables = attached()
    assert [uids for uids, _ in tables.inserts] == [f"{insert.uid}-<type>_<transformation>" for insert in SHIPPED]
    views = [sql.rpartition(" FROM ")[2] for _, sql in tables.inserts]
    names = ["rollups", "edges", "patterns", "pattern_names", "insights", "sequence_matches", "insights"]
    assert views == [f"view_{name}" for name in (*names, "dead_letters")]


def test_streams_of_the_same_rows_are_one_view_and_rows_without_a_stream_have_no_sink() -> None:
    tables = FakeTables()
    config = JobConfig.model_validate({"lake": {"uri": "jdbc:sqlite:x.db", "warehouse": "file:///w"}})
    attach(tables, {"insights": [FakeStream((name,)) for name in "abc"], "rollups": []}, config)
    assert tables.views == {"view_insights": FakeStream(("a", "b", "c"))}
    assert [uids.partition("-<")[0] for uids, _ in tables.inserts] == ["lake-insights", "kafka-insights"]


def test_rows_that_two_sinks_take_are_made_once() -> None:
    names = ["rollups", "edges", "patterns", "pattern-names", "insights", "sequence-matches", "dead-letters"]
    assert [rows.name for rows in rows_of(SHIPPED)] == names
