"""Each wrong situation gives a sentence: what was found, what was expected, the next step. Writes the table of them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy

from reasoner.clients.flink_rest import FlinkRest
from reasoner.stack import StackSettings, running
from reasoner.waiting import wait_until
from tests.services.job_runs import ClusterJob, database, job_config
from tests.situations.rows import ROWS
from tests.situations.situation import Engines, Place, Situation, faults, page, run, table_row
from tests.support.components import skip_unless_set_up, skip_without_postgres

pytestmark = pytest.mark.faults

NAME = "situations"


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Start the stack with a job and take a savepoint of it."""
    skip_unless_set_up()
    skip_without_postgres()
    folder = tmp_path_factory.mktemp(NAME)
    with running(StackSettings(folder=folder / "stack").with_auto_ports(), ["kafka", "postgres", "flink"]) as stack:
        urls = stack.settings.postgres_sqlalchemy_url, stack.settings.postgres_jdbc_url
        guard(urls[0], database(*urls, "guarded"), stack.settings.folder)
        config = job_config(
            NAME, stack.settings.kafka_bootstrap, database(*urls, NAME), folder, signals=("traces",),
            engine={"parallelism": 1},
        )  # fmt: skip
        job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), folder, "latency-spikes")
        job.prepare(1)
        job = job.started()
        wait_until(lambda: job.rest.all_tasks_run(job.job_id), "all tasks run", 60.0)
        saved = job.rest.savepoint(job.job_id, f"file://{folder}/savepoints", deadline_s=60.0)
        yield Engines(stack, config, saved)


def guard(sqlalchemy_url: str, jdbc_url: str, folder: Path) -> None:
    """Let the database `guarded` ask for a password; the others of the stack trust local users."""
    rules = folder / "postgres" / "data" / "pg_hba.conf"
    rules.write_text(f"host guarded all 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    engine = sqlalchemy.create_engine(sqlalchemy_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("CREATE ROLE guarded LOGIN PASSWORD 'right'"))
            connection.execute(sqlalchemy.text("SELECT pg_reload_conf()"))
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def table() -> Iterator[dict[str, str]]:
    """Yield the rows by name; write them as the page SITUATIONS once all are there."""
    rows: dict[str, str] = {}
    yield rows
    target = os.environ.get("SITUATIONS")
    if target and rows.keys() == {row.name for row in ROWS}:
        Path(target).write_text(page({row.name: rows[row.name] for row in ROWS}))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_user_sees_a_sentence(row: Situation, engines: Engines, table: dict[str, str], tmp_path: Path) -> None:
    with ExitStack() as stack:
        place = Place(tmp_path, stack, engines=engines)
        seen = run(row, place)
    assert not faults(row, seen), f"{faults(row, seen)}\n{seen.output}"
    table[row.name] = table_row(row, seen, place)
