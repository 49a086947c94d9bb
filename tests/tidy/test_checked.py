"""Each file that deploys or monitors a job is in docs/checked.md with what checked it."""

import re
from fnmatch import fnmatchcase

from tests.deploy.checked import CHECKS, DOCUMENT, checks_of, files
from tests.tidy.rules import ROOT


def test_each_file_has_a_check_or_the_reason_why_it_has_none() -> None:
    found = files()
    assert found
    assert [file for file in found if not checks_of(file)] == [], "add a Check in tests/deploy/checked.py"


def test_each_check_names_a_test_that_exists() -> None:
    """An empty name says that nothing checks it."""
    assert [check.test for check in CHECKS if check.test and not (ROOT / check.test).is_file()] == []


def test_each_pattern_of_a_check_matches_a_file() -> None:
    """Catch a file that was renamed and has lost its check."""
    found = files()
    patterns = [pattern for check in CHECKS for pattern in check.patterns]
    assert [name for name in patterns if not any(fnmatchcase(file, name) for file in found)] == []


def test_the_document_has_the_files_and_checks_that_there_are() -> None:
    """Versions, dates and commits differ from machine to machine and from run to run."""
    rows = re.findall(r"^\| \[([^\]]+)\]\(\S+\) \| (.*?) \| (.*?) \|$", DOCUMENT.read_text(), re.MULTILINE)
    named = {file: (re.findall(r"\]\(\.\./([^)]+)\) with ", done), lacking) for file, done, lacking in rows}
    assert named == {
        file: (
            [check.test for check in checks_of(file) if check.test],
            "<br>".join(check.tool for check in checks_of(file) if not check.test),
        )
        for file in files()
    }, "run `make checked`"
