"""A check whose program is not there is left out for a developer, and fails where all programs are made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.skips import VARIABLE
from tests.tidy.rules import ROOT

CHECK = "tests/unit/deploy/collector/test_configurations.py::test_the_balancer_is_valid"


@pytest.mark.parametrize(("value", "code", "outcome"), [("", 0, "1 skipped"), ("yes", 1, "1 failed")])
def test_a_missing_program_fails_a_check_where_none_may_be_skipped(
    tmp_path: Path, value: str, code: int, outcome: str
) -> None:
    environment = {**os.environ, "REASONER_TOOLS": str(tmp_path), VARIABLE: value}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", CHECK]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, outcome in done.stdout) == (code, True), done.stdout
    assert f"{tmp_path}/haproxy/haproxy is missing: run `reasoner/stack/setup.sh haproxy`" in done.stdout
