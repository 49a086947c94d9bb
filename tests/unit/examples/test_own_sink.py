"""The sink of `examples/own_sink` on the local engine and its SQL; `tests/flink` runs it on Flink."""

from examples.own_sink.insight_lines import INSERT, folder_of, lines_of
from jobs.flink_tables import attach
from jobs.settings import JobConfig
from jobs.sinks import SHIPPED, rows_of
from state_schemas.contracts.insight import from_json
from tests.support.fake_tables import FakeStream, FakeTables
from tests.support.outputs import INSIGHT, LETTER

CONFIG = JobConfig.model_validate({"lake": {"uri": "jdbc:sqlite:x.db", "warehouse": "file:///w"}})


def test_each_revision_is_a_line_of_json_and_other_outputs_are_none() -> None:
    (line,) = lines_of([INSIGHT, LETTER])
    assert "\n" not in line
    assert from_json(line.encode()) == INSIGHT


def test_the_sink_stands_beside_the_shipped_ones() -> None:
    tables = FakeTables()
    inserts = (*SHIPPED, INSERT)
    streams = {rows.name: [FakeStream((rows.name,))] for rows in rows_of(inserts)}
    attach(tables, streams, CONFIG, inserts)
    assert tables.options("insight_lines")["path"] == folder_of(CONFIG) == "file:///w/insight_lines"
    assert [uids for uids, _ in tables.inserts] == [f"{insert.uid}-<type>_<transformation>" for insert in inserts]
    assert tables.inserts[-1][1] == "INSERT INTO insight_lines SELECT line FROM view_insight_lines"
