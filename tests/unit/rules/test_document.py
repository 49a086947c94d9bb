"""Rule files: what is read, and that each hostile or wrong file is refused with line and what to write instead."""

from pathlib import Path

import pytest

from jobs.rules import load_rules, read_rule_files
from state_schemas.contracts.rules import Rule, rule_schema
from state_schemas.contracts.settings import BadConfig
from tests.unit.rules.hostile import FILES, GOOD, Hostile
from udfs.rules.document import read_rules


def test_a_good_file_has_its_rules_with_their_lines() -> None:
    found = read_rules("r.yaml", f"---\n{GOOD}---\n{GOOD.replace('a-rule', 'b')}".encode())
    assert not found.faults
    assert [rule.id for rule in found.rules] == ["a-rule", "b"]
    assert found.lines == ((2, 8, 10), (13, 19, 21))
    assert found.rules[0].within == 600_000
    assert found.rules[0].steps[1].log == [{"body|contains": "x"}]


@pytest.mark.parametrize("hostile", FILES, ids=lambda hostile: hostile.name)
def test_a_hostile_file_is_refused_with_its_line_and_what_to_write(hostile: Hostile, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(hostile.data)
    faults = read_rule_files([file]).faults
    assert faults, "the file was accepted"
    assert {fault.file for fault in faults} == {str(file)}
    assert any(hostile.says in fault.text for fault in faults if fault.line == hostile.line), faults
    assert all(len(fault.text) < 400 for fault in faults), "a message that is too long to read"


def test_there_are_eighty_hostile_files_of_their_own() -> None:
    assert len({hostile.data for hostile in FILES}) == len(FILES) >= 80


def test_all_faults_of_all_files_come_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.replace("version: 1", "version: x").replace("by: service", "by: pod"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.yml").write_text(GOOD.replace("body|contains", "bdoy"))
    (tmp_path / "notes.txt").write_text("no rule")
    with pytest.raises(BadConfig) as caught:
        load_rules(tmp_path)
    lines = str(caught.value).splitlines()
    assert "3 faults in rules, nothing was done" in lines[0]
    assert [line.strip().removeprefix(str(tmp_path)).partition(": ")[0] for line in lines[1:-1]] == [
        "/a.yaml:2",
        "/a.yaml:4",
        "/deep/b.yml:9",
    ]


def test_a_folder_without_rules_has_none(tmp_path: Path) -> None:
    """A job that has had rules goes on from its savepoint with such a folder."""
    assert not load_rules(tmp_path).rules


def test_an_id_of_two_files_and_a_file_that_is_not_there_are_faults(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD)
    texts = [str(fault) for fault in read_rule_files([tmp_path, tmp_path / "gone"]).faults]
    assert len(texts) == 2
    assert any("a.yaml:1 already, expected another one" in text for text in texts)
    assert any("cannot be read: No such file or directory" in text for text in texts)


def test_a_rule_is_written_as_it_is_read() -> None:
    (rule,) = read_rules("r", GOOD.encode()).rules
    assert Rule.model_validate_json(rule.model_dump_json()) == rule


def test_the_schema_for_editors_has_durations_as_text_and_no_further_names() -> None:
    schema = rule_schema()
    assert schema["properties"]["within"]["type"] == "string"
    assert schema["additionalProperties"] is False
