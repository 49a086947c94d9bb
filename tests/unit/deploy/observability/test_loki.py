"""The file of Loki, by Loki's own check of it."""

import subprocess
from pathlib import Path

from tests.support.parts import LOKI, skip_unless_made
from tests.tidy.rules import ROOT

FILE = ROOT / "deploy" / "observability" / "loki.yaml"


def complaint(path: Path) -> str:
    """Return what Loki says against a file, "" if it is valid."""
    skip_unless_made(LOKI)
    words = [str(LOKI), "-verify-config", f"-config.file={path}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr if done.returncode else ""


def test_the_file_is_valid() -> None:
    assert complaint(FILE) == ""


def test_a_misspelt_key_is_not_valid(tmp_path: Path) -> None:
    """Catch a check that accepts everything."""
    wrong = tmp_path / "loki.yaml"
    wrong.write_text(FILE.read_text().replace("replication_factor:", "replication_factr:"))
    assert "replication_factr not found" in complaint(wrong)
