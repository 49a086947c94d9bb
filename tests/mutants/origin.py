"""A plugin for pytest: it ends the run with code 3 where a package of the project came from another checkout.

The packages are installed as editable, so that an import which is not in the copy would silently use the checkout.
"""

import sys
from pathlib import Path

import pytest

from tests.tidy.rules import PACKAGES

ELSEWHERE = 3


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Check the file of every module of the project that the run has imported."""
    home = Path(session.config.rootpath)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.split(".")[0] in PACKAGES and file and not Path(file).is_relative_to(home):
            pytest.exit(f"{name} was imported from {file}, expected a file in {home}", ELSEWHERE)
