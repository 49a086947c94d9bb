"""Job that runs beside another one, because it is independent and most of its time is waiting."""

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.recordings.player import play
from reasoner.runs import demo
from reasoner.traffic import shop
from tests.services.job_runs import SEED, START_MS, ClusterJob, database, job_config, topics_in
from tests.support.components import FlinkCluster, PostgresUrls
from tests.support.reshaped import spread

NAME = "silent"
PARTITIONS = 2


@pytest.fixture(scope="session")
def silent(
    kafka: str, postgres: PostgresUrls, flink_cluster: FlinkCluster, tmp_path_factory: pytest.TempPathFactory
) -> ClusterJob:
    """Start a job on the shop, with one more partition of each topic, which gets no message and is idle after 10 s."""
    folder = tmp_path_factory.mktemp(NAME)
    config = job_config(NAME, kafka, database(postgres.sqlalchemy, postgres.jdbc, NAME), folder)
    config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"idle_ms": 10_000})})
    job = ClusterJob(config, FlinkRest(flink_cluster.rest_url), folder)
    job.prepare(PARTITIONS + 1)
    plan = demo.plan(SEED, True, START_MS)
    messages = spread(shop.messages(plan.seed, plan.start_ms, demo.DURATION_MS, plan.incident), PARTITIONS, 1)
    play(messages, kafka, topics_in(config))
    return job.started()
