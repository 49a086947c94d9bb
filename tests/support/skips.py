"""With REASONER_NO_SKIPS=yes a skipped test of what deploys a job fails: its programs must be there."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

VARIABLE: Final = "REASONER_NO_SKIPS"
_TESTS: Final = Path(__file__).parents[1]
_FOLDERS: Final = (_TESTS / "unit" / "deploy", _TESTS / "deploy")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure with its reason; an expected failure is none."""
    report = yield
    here = any(item.path.is_relative_to(folder) for folder in _FOLDERS)
    if report.skipped and here and not hasattr(report, "wasxfail") and os.environ.get(VARIABLE) == "yes":
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{reason}\n{VARIABLE}=yes: no test of {item.path.parent} may be skipped"
    return report
