"""Real components for the tests: started once a session on free ports in a temporary folder, stopped at its end.

Kafka and PostgreSQL are native processes, or containers where an engine answers (tests/support/containers.py).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from reasoner.errors import CommandFailed
from reasoner.stack import RunningStack, StackSettings, running
from reasoner.stack.environment import flink_home, kafka_jars
from reasoner.stack.postgres import postgres_programs
from tests.support.crash import kill_taskmanager, start_taskmanager

# The JVMs of the tests end after a minute or two. The optimising compiler takes 6 of 20 CPU seconds of a TaskManager
# (docs/sizing.md), and its code is used too late.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

# Memory of a cluster on which the job runs with all signals, and with the clients of S3.
SIZES: Final[Mapping[str, Any]] = {"flink_taskmanager_memory": "2816m", "flink_jobmanager_memory": "896m"}


@dataclass(frozen=True, slots=True)
class PostgresUrls:
    """Addresses of the database `lake`: for Flink (jdbc) and for pyiceberg (sqlalchemy)."""

    jdbc: str
    sqlalchemy: str


@dataclass(frozen=True, slots=True)
class FlinkCluster:
    """A standalone cluster of two TaskManagers with two slots each, whose TaskManagers can be killed."""

    rest_url: str
    flink_home: Path
    stack: RunningStack

    def kill_taskmanager(self, number: int) -> int:
        """Kill the process of one TaskManager with SIGKILL; return its process id."""
        return kill_taskmanager(self.stack, number)

    def start_taskmanager(self, number: int) -> None:
        """Start the TaskManager again; return when the cluster counts it."""
        start_taskmanager(self.stack, number)


def skip_unless_set_up() -> None:
    """Skip with the reason where `make setup` has not been run."""
    skip_without(kafka_jars, flink_home)


def skip_without(*prepared: Callable[[], Path]) -> None:
    """Skip with the reason where something that the setup makes is missing."""
    try:
        for path in prepared:
            path()
    except CommandFailed as missing:
        pytest.skip(str(missing))


def skip_without_postgres() -> None:
    """Skip with the reason where PostgreSQL is not installed."""
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed: run `make setup` as root, or `apt-get install postgresql`")


@pytest.fixture
def stack_settings(tmp_path: Path) -> StackSettings:
    """Return settings of a stack for one test: temporary folder, free ports."""
    return StackSettings(folder=tmp_path).with_auto_ports()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a broker for all tests of the session; yield its bootstrap address. Each test creates its own topics."""
    settings = StackSettings(folder=tmp_path_factory.mktemp("kafka")).with_auto_ports()
    from tests.support import containers  # slow, and few sessions start a component

    if containers.are_used():
        with containers.kafka_container(settings.resolved()) as bootstrap:
            yield bootstrap
        return
    skip_unless_set_up()
    with running(settings, ["kafka"]) as stack:
        yield stack.settings.kafka_bootstrap


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresUrls]:
    """Start PostgreSQL with the empty database `lake` for the session."""
    settings = StackSettings(folder=tmp_path_factory.mktemp("postgres")).with_auto_ports()
    from tests.support import containers

    if containers.are_used():
        settings = settings.resolved()
        with containers.postgres_container(settings):
            yield PostgresUrls(settings.postgres_jdbc_url, settings.postgres_sqlalchemy_url)
        return
    skip_without_postgres()
    with running(settings, ["postgres"]) as stack:
        yield PostgresUrls(stack.settings.postgres_jdbc_url, stack.settings.postgres_sqlalchemy_url)


@pytest.fixture(scope="session")
def flink_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    """Start a standalone Flink cluster for the session: a test that kills a TaskManager starts it again."""
    skip_unless_set_up()
    settings = StackSettings(folder=tmp_path_factory.mktemp("flink"), flink_taskmanagers=2).with_auto_ports()
    with running(settings, ["flink"]) as stack:
        yield FlinkCluster(stack.settings.flink_rest_url, flink_home(), stack)
