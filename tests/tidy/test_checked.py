"""Each file that deploys or monitors a job is in docs/checked.md with what checked it."""

import re

from tests.deploy.checked import CHECKS, DOCUMENT, checks_of, files
from tests.tidy.rules import ROOT


def test_each_file_has_a_check_or_the_reason_why_it_has_none() -> None:
    found = files()
    assert found
    assert [file for file in found if not checks_of(file)] == [], "add a Check in tests/deploy/checked.py"


def test_each_check_names_a_test_that_exists() -> None:
    used = {check for file in files() for check in checks_of(file)}
    assert used <= set(CHECKS)
    assert [check.test for check in used if not (ROOT / check.test).exists()] == []


def test_the_document_has_the_files_that_there_are() -> None:
    named = set(re.findall(r"^\| \[([^\]]+)\]", DOCUMENT.read_text(), re.MULTILINE))
    assert named == set(files()), "run `make checked`"
