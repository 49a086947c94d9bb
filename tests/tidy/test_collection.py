"""Collecting the tests of the deployment changes nothing on the machine and takes no port."""

import subprocess
import sys
from typing import Final

from tests.tidy.rules import ROOT

# Caches of machine code are written whenever a module is imported.
GUARD: Final = """
import sys, pytest
def refuse(event, arguments):
    writes = event == "open" and isinstance(arguments[0], str) and str(arguments[1])[0] in "awx"
    if event == "socket.bind" or (writes and "__pycache__" not in arguments[0] and arguments[0] != "/dev/null"):
        raise RuntimeError(f"collection does {event} {arguments[:2]}")
sys.addaudithook(refuse)
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "--capture=no", *sys.argv[1:]]))
"""


def test_collection_writes_no_file_and_takes_no_port() -> None:
    folders = ("tests/deploy", "tests/unit/deploy")
    command = [sys.executable, "-c", GUARD, *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert not done.returncode, done.stdout[-3_000:] + done.stderr
