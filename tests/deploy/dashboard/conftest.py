"""A session cluster of the stack with the settings of flink-conf, shared by the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reasoner.stack import RunningStack, StackSettings, running
from tests.support.components import skip_unless_set_up, skip_without_postgres


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Start Kafka, PostgreSQL and a session cluster of two TaskManagers with two slots each."""
    skip_unless_set_up()
    skip_without_postgres()
    folder: Path = tmp_path_factory.mktemp("session")
    settings = StackSettings(folder=folder, flink_taskmanagers=2, flink_metrics=True).with_auto_ports()
    with running(settings, ["kafka", "postgres", "flink"]) as stack:
        yield stack
