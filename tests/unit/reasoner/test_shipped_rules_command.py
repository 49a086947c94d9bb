"""`shipped` as a name of rules in `reasoner rules` and `reasoner replay`."""

import json
from pathlib import Path

import pytest

from jobs.shipped import SHIPPED, shipped_rules
from reasoner.commands.shared import rules_path
from tests.support.commands import run
from tests.tidy.rules import ROOT
from tests.unit.rules.hostile import GOOD
from udfs.rules.compiled import rule_name


def test_the_shipped_rules_are_listed_with_their_state_and_their_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "rules", "list", "--shipped") == 0
    said = capsys.readouterr().out
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    for one in shipped_rules():
        assert f" {one.state} " in lines[one.rule.id]
    assert f"files: {SHIPPED}" in said
    assert run(monkeypatch, "rules", "list", "--shipped", "--json") == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["id"], one["state"]) for one in listed] == [(one.rule.id, one.state) for one in shipped_rules()]
    assert all(one["description"] for one in listed)


def test_shipped_names_the_rules_of_the_package_and_a_folder_of_this_name_is_written_with_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "a.yaml").write_text(GOOD)
    assert run(monkeypatch, "rules", "check", "./shipped") == 0
    assert capsys.readouterr().out == "1 rules, no fault\n"
    assert run(monkeypatch, "rules", "check", "shipped") == 0
    assert capsys.readouterr().out == f"{len(shipped_rules())} rules, no fault\n"
    assert rules_path("shipped") == SHIPPED


def test_a_backtest_and_a_replay_take_the_shipped_rules(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = str(ROOT / "examples" / "rules" / "matching")
    assert run(monkeypatch, "rules", "backtest", "shipped", "--data", recording, "--json") == 0
    outcomes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["rule"] for one in outcomes} == {rule_name(one.rule) for one in shipped_rules()}
    assert run(monkeypatch, "replay", recording, "--rules", "shipped") == 0


@pytest.mark.parametrize("words", [(), ("--shipped", "rules/")])
def test_a_list_is_of_files_or_of_the_shipped_rules(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(monkeypatch, "rules", "list", *words) == 2
    assert "expected one of FILES, --shipped and --config" in capsys.readouterr().err
