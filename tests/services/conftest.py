"""Job that runs beside another one, because it is independent and most of its time is waiting."""

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.recordings.player import play
from tests.services.job_runs import ClusterJob, database, job_config, shop_messages, topics_in
from tests.support.components import FlinkCluster, PostgresUrls
from tests.support.reshaped import spread

NAME = "silent"
PARTITIONS = 2


@pytest.fixture(scope="session")
def silent(
    kafka: str, postgres: PostgresUrls, flink_cluster: FlinkCluster, tmp_path_factory: pytest.TempPathFactory
) -> ClusterJob:
    """Start the job of latency on the shop, with one more partition, which gets no message and is idle after 10 s."""
    folder = tmp_path_factory.mktemp(NAME)
    jdbc = database(postgres.sqlalchemy, postgres.jdbc, NAME)
    config = job_config(NAME, kafka, jdbc, folder, signals=("traces",))
    config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"idle_ms": 10_000})})
    job = ClusterJob(config, FlinkRest(flink_cluster.rest_url), folder, "latency-spikes")
    job.prepare(PARTITIONS + 1)
    traces = (message for message in shop_messages() if message.topic_kind == "traces")
    play(spread(traces, PARTITIONS, 1), kafka, topics_in(config))
    return job.started()
