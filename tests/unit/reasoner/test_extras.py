"""A command without its extra ends with one sentence; the others run without it."""

import sys
from pathlib import Path

import pytest

from reasoner.cli import main
from tests.tidy.rules import ROOT


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [
        ("drain3", ["evaluate", "loghub", "--data", "."], "evaluation"),
        ("drain3", ["bench", "templates", "--loghub", ".", "--recorded", "."], "evaluation"),
        ("pyflink", ["bench", "job"], "job"),
        ("pyflink", ["demo"], "job"),
        ("pyflink", ["replay", "--engine", "flink", "."], "job"),
        ("pyflink", ["submit", "--config", "job.yaml"], "job"),
        ("sigma", ["rules", "import-sigma", "."], "sigma"),
        ("typer", [], "local"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else part,
)
def test_a_missing_extra_is_one_sentence_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str, words: list[str], extra: str
) -> None:
    command = " ".join(["reasoner", *(word for word in words if not word.startswith((".", "--", "job.yaml")))])
    command = command.replace("replay flink", "replay --engine flink")
    assert run(monkeypatch, missing, words) == 2
    assert capsys.readouterr().err == f"reasoner: `{command}` needs the extra `{extra}`: run `make setup` in {ROOT}\n"


@pytest.mark.parametrize("command", ["nezha", "visible"])
def test_an_evaluation_without_a_peer_runs_without_the_peer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    """The command runs until it finds that the folder is empty."""
    assert run(monkeypatch, "drain3", ["evaluate", command, "--data", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def run(monkeypatch: pytest.MonkeyPatch, missing: str, words: list[str]) -> object:
    """Run `reasoner WORDS` as if a module were not installed; return its exit code."""
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(sys, "argv", ["reasoner", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code
