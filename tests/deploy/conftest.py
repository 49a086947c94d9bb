"""The parts of `make test-deploy` run two at once: the tests of a folder stay in one process, with their fixtures."""

from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Put each test of tests/deploy into the group of its folder, for `--dist loadgroup`."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(HERE).parts[0]))
