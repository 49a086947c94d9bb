"""Tables are created once, get new columns at the end, and return the rows that were written."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from reasoner.clients import lake
from state_schemas.contracts import tables
from state_schemas.contracts.settings import Lake
from state_schemas.contracts.tables import NAMESPACE, TABLES, Column


@pytest.fixture
def settings(tmp_path: Path) -> Lake:
    return Lake(uri=f"jdbc:sqlite:{tmp_path}/db/catalog.db", warehouse=f"file://{tmp_path}/warehouse")


def test_creating_twice_changes_nothing(settings: Lake) -> None:
    assert lake.create_tables(settings) == [f"{spec.name}: created" for spec in TABLES]
    before = [table.metadata_location for table in lake.tables(settings)]
    assert lake.create_tables(settings) == [f"{spec.name}: up to date" for spec in TABLES]
    assert [table.metadata_location for table in lake.tables(settings)] == before


def test_partitions_are_hour_env_and_bucket_of_service(settings: Lake) -> None:
    lake.create_tables(settings)
    for table in lake.tables(settings):
        hour = [] if table.name()[-1] == "pattern_registry" else ["hour"]
        assert [str(field.transform) for field in table.spec().fields] == [*hour, "identity", "bucket[16]"]
        assert table.metadata.format_version == 2


def test_a_new_column_is_added_and_old_field_ids_stay(settings: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.create_tables(settings)
    spec = tables.INSIGHTS
    grown = replace(spec, columns=(*spec.columns, Column("later", "string", "of a later build")))
    before = _field_ids(settings, spec.name)
    monkeypatch.setattr(lake, "TABLES", (grown,))
    assert lake.create_tables(settings) == ["insights: added later"]
    after = _field_ids(settings, spec.name)
    assert {name: after[name] for name in before} == before
    assert after["later"] > max(before.values())


def test_tables_that_are_not_there_are_left_out(settings: Lake) -> None:
    Path(settings.uri.removeprefix("jdbc:sqlite:")).parent.mkdir()
    lake.catalog(settings).create_namespace(NAMESPACE)
    assert list(lake.tables(settings)) == []


def test_read_returns_an_arrow_table_of_the_columns_asked_for(settings: Lake) -> None:
    lake.create_tables(settings)
    found = lake.read(settings, "insights", selected_fields=("insight_id", "revision"))
    assert isinstance(found, pa.Table)
    assert found.column_names == ["insight_id", "revision"]


def _field_ids(settings: Lake, name: str) -> dict[str, int]:
    table = next(table for table in lake.tables(settings) if table.name()[-1] == name)
    return {field.name: field.field_id for field in table.schema().fields}
