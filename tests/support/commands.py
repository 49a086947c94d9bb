"""Commands of `reasoner`, run in this process."""

import sys

import pytest

from reasoner.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    """Run `reasoner WORDS`; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["reasoner", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code
