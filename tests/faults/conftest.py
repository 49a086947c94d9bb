"""A stack for each fault test, and its input while the test breaks something."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from jobs.settings import JobConfig
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.stack import RunningStack, StackSettings, running
from tests.services.job_runs import topics_in
from tests.support.components import SIZES, skip_unless_set_up, skip_without_postgres


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    """Start Kafka, PostgreSQL and a Flink cluster of two TaskManagers with two slots each."""
    skip_unless_set_up()
    skip_without_postgres()
    sizes = {**SIZES, "kafka_heap_mb": 512}
    settings = StackSettings(folder=tmp_path / "stack", flink_taskmanagers=2, **sizes).with_auto_ports()
    with running(settings, ["kafka", "postgres", "flink"]) as started:
        yield started


@contextmanager
def feeding(job: JobConfig, messages: Iterable[Message], count: int, speed: float) -> Iterator[None]:
    """Play `count` messages to the topics of the job in a thread while the caller's `with` body runs.

    The last tenth is sent after the body, so that some come after its faults, however slow the machine is. Leaving the
    body waits until all messages are in Kafka, and raises the error of the player if there was one.
    """
    broken = Event()

    def held() -> Iterator[Message]:
        for number, message in enumerate(messages):
            if number == count * 9 // 10:
                broken.wait()
            yield message

    with ThreadPoolExecutor(1, "feeding") as pool:
        fed = pool.submit(play, held(), job.kafka.bootstrap_servers, topics_in(job), PlayOptions(speed=speed))
        try:
            yield
            assert not fed.done(), "everything was sent before the faults were over, or the player has failed"
        finally:
            broken.set()
        fed.result()


def setting(name: str, default: int) -> int:
    """Return a size from the environment, so that a fault test can be tried with less data first."""
    return int(os.environ.get(name) or default)
