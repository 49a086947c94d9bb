"""A session cluster with the settings of flink-conf, and an S3 server, shared by the tests of this folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasoner.stack import RunningStack, StackSettings, running
from reasoner.stack.environment import s3_server
from tests.support.components import SIZES, skip_unless_set_up, skip_without, skip_without_postgres

PLANTED = "planted-in-the-environment"  # no log may have it


@pytest.fixture(scope="package")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Start Kafka, PostgreSQL, the S3 server and a session cluster of two TaskManagers with two slots each."""
    skip_unless_set_up()
    skip_without_postgres()
    skip_without(s3_server)
    folder: Path = tmp_path_factory.mktemp("session")
    settings = StackSettings(folder=folder, flink_taskmanagers=2, flink_metrics=True, **SIZES).with_auto_ports()
    os.environ["REASONER_TEST_PASSWORD"] = PLANTED
    with running(settings, ["kafka", "postgres", "s3", "flink"]) as stack:
        del os.environ["REASONER_TEST_PASSWORD"]
        yield stack


@pytest.fixture
def no_secrets(session: RunningStack) -> Iterator[None]:
    """Check after the test that no log of Flink has a value of the processes' environment."""
    yield
    logs = [path for path in (session.settings.folder / "flink").rglob("*.log") if path.is_file()]
    assert logs, "there are logs to look at"
    assert [path.name for path in logs if PLANTED in path.read_text(errors="replace")] == []
