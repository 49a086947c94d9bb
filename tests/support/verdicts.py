"""Verdict of a long test as a file: what, machine, commit, figures, pass."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reasoner.evaluate.result import commit, machine


@pytest.fixture
def verdict(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Yield a dictionary for the figures of the test and write it as `<what>.json` into the folder VERDICTS.

    The folder is a temporary one where VERDICTS is not set. `pass` is true only if the test ran to its end, because the
    test sets it last.
    """
    slug = request.node.name.removeprefix("test_").replace("_", "-")
    folder = Path(os.environ.get("VERDICTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    began_s = time.monotonic()
    yield figures
    passed = bool(figures.pop("pass", False))
    figures["duration_s"] = round(time.monotonic() - began_s)
    result = {"what": slug, "machine": machine(), "commit": commit(), "pass": passed, "figures": figures}
    (folder / f"{slug}.json").write_text(json.dumps(result, indent=1) + "\n")
