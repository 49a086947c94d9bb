"""A stack of its own for each fault, and the verdict that it leaves: what, machine, commit, figures, pass."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reasoner.evaluate.result import commit, machine
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, PlayReport, play
from reasoner.stack import RunningStack, StackSettings, running
from state_schemas.telemetry.signals import SignalType
from tests.services.conftest import skip_unless_set_up, skip_without_postgres


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    """Kafka, PostgreSQL and a Flink cluster of two TaskManagers with two slots each."""
    skip_unless_set_up()
    skip_without_postgres()
    settings = StackSettings(folder=tmp_path / "stack").with_auto_ports()
    with running(settings, ["kafka", "postgres", "flink"]) as started:
        yield started


@pytest.fixture
def verdict(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Figures of the test, written as `<what>.json` into the folder VERDICTS (a temporary one where it is not set).

    The file says that the test has passed only if it ran to its end: it sets `pass` last.
    """
    what = request.node.name.removeprefix("test_").replace("_", "-")
    folder = Path(os.environ.get("VERDICTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    began_s = time.monotonic()
    yield figures
    passed = bool(figures.pop("pass", False))
    figures["duration_s"] = round(time.monotonic() - began_s)
    found = {"what": what, "machine": machine(), "commit": commit(), "pass": passed, "figures": figures}
    (folder / f"{what}.json").write_text(json.dumps(found, indent=1) + "\n")


@contextmanager
def feeding(
    messages: Iterable[Message], bootstrap: str, topics: Mapping[SignalType, str], speed: float
) -> Iterator[Future[PlayReport]]:
    """Plays the messages in a thread meanwhile; the block ends when all are in Kafka, or fails as the player did."""
    with ThreadPoolExecutor(1, "feeding") as pool:
        fed = pool.submit(play, messages, bootstrap, topics, PlayOptions(speed=speed))
        yield fed
        fed.result()


def setting(name: str, default: int) -> int:
    """A size from the environment, so that a fault can be tried small first."""
    return int(os.environ.get(name) or default)
