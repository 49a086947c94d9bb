"""Exit codes of commands that find something wrong: 1, and the output that they have is printed all the same."""

import json
from pathlib import Path

import pytest
import yaml

from reasoner.clients import lake
from state_schemas.contracts.settings import Lake
from state_schemas.contracts.tables import NAMESPACE, TABLES
from tests.support.commands import run

LINE = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "1700000000000000000"}]}]}]}


@pytest.mark.parametrize(("end", "exit_code"), [("", 0), ("{no JSON\n", 1)])
def test_a_replay_ends_with_1_where_a_line_cannot_be_read_and_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, end: str, exit_code: int
) -> None:
    (tmp_path / "logs.jsonl").write_text(f"{json.dumps(LINE)}\n{end}")
    assert run(monkeypatch, "replay", str(tmp_path)) == exit_code
    said = capsys.readouterr().err
    assert ("logs.jsonl:2: " in said) == ("1 lines could not be read" in said) == bool(exit_code)


@pytest.mark.parametrize("complete", [True, False])
def test_a_description_of_the_tables_ends_with_1_where_one_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, complete: bool
) -> None:
    settings = Lake(uri=f"jdbc:sqlite:{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    lake.create_tables(settings)
    if not complete:
        lake.catalog(settings).drop_table((NAMESPACE, TABLES[0].name))
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump({"lake": {"uri": settings.uri, "warehouse": settings.warehouse}}))
    assert run(monkeypatch, "tables", "describe", "--config", str(config), "--json") == int(not complete)
    described = [table["name"] for table in json.loads(capsys.readouterr().out)["tables"]]
    assert described == [table.name for table in TABLES[int(not complete) :]]
