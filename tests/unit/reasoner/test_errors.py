"""Errors of commands: a person gets a sentence, and the traceback where it is asked for."""

import sys
from pathlib import Path

import pytest
from kafka.errors import KafkaTimeoutError

from reasoner import commands
from reasoner.cli import main
from reasoner.errors import sentence_of


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException, *words: str) -> None:
    """Run `reasoner WORDS` where the command raises the error."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["reasoner", *words])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(commands, "app", fail)
    with pytest.raises(type(error)):
        main()
    sys.excepthook(type(error), error, error.__traceback__)  # as Python does at its end


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (KafkaTimeoutError("no b:1"), "reasoner: KafkaTimeoutError: no b:1; check kafka.bootstrap_servers"),
        (OSError(28, "No space left on device", "/data/x"), "reasoner: /data/x: No space left on device"),
        (KeyError("lake"), "reasoner: KeyError: 'lake'; this is a fault of the command"),
    ],
)
def test_an_error_that_no_command_expects_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, sentence: str
) -> None:
    run(monkeypatch, error, "tables")
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert "Traceback" not in said
    assert said.count("\n") == 1


def test_verbose_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, KeyError("lake"), "tables", "--verbose")
    assert "Traceback" in capsys.readouterr().err
    assert sys.argv == ["reasoner", "tables"], "the command does not see the option"


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["reasoner", "insights"])
    monkeypatch.setattr(commands, "app", interrupt)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "reasoner: interrupted\n"


def test_a_missing_file_is_named() -> None:
    with pytest.raises(OSError) as failed:
        Path("/nowhere/job.yaml").read_text()
    assert sentence_of(failed.value).startswith("/nowhere/job.yaml: No such file or directory; check the path")
