"""A stack with an object store for each test, and jobs whose warehouse and checkpoints are on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.settings import JobConfig
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.stack import RunningStack, StackSettings, running
from reasoner.stack.environment import s3_server
from tests.faults.terminal import Person
from tests.services.job_runs import ClusterJob, job_config, topics_in
from tests.support.components import SIZES, skip_unless_set_up, skip_without, skip_without_postgres
from tests.support.submitted import PARTITIONS, lake_on_s3, parts


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    """Start Kafka, PostgreSQL, the object store and a Flink cluster of one TaskManager with two slots."""
    skip_unless_set_up()
    skip_without_postgres()
    skip_without(s3_server)
    settings = StackSettings(folder=tmp_path / "stack", **SIZES).with_auto_ports()
    with running(settings, ["kafka", "postgres", "s3", "flink"]) as started:
        yield started


def config_on_s3(stack: RunningStack, name: str, folder: Path, **catalog: Any) -> JobConfig:
    """Return settings with the warehouse and the checkpoints in the store.

    catalog: settings of the lake in place of those of PostgreSQL.
    """
    settings = stack.settings
    config = job_config(name, settings.kafka_bootstrap, settings.postgres_jdbc_url, folder)
    lake = lake_on_s3(settings, name, uri=settings.postgres_jdbc_url) | catalog
    engine = config.engine.model_copy(update={"checkpoint_dir": f"s3://flink/{name}"})
    return JobConfig.model_validate({**config.model_dump(), "lake": lake, "engine": engine.model_dump()})


def played(job: ClusterJob, person: Person, file: Path) -> list[Message]:
    """Submit a job, play the telemetry of the shop, and drain the job when all is read; return what was played."""
    job.prepare(PARTITIONS)
    person.run("submit", "--config", str(file), "--target", job.rest.url)
    (messages,) = parts(1)
    play(messages, job.config.kafka.bootstrap_servers, topics_in(job.config), PlayOptions(compression="zstd"))
    job.wait_until_read()
    person.run("stop", job.config.name, "--target", job.rest.url, "--drain")
    return messages
