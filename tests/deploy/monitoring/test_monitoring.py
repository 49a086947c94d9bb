"""Prometheus beside the real job: each panel of the boards has data, and the alerts about an injected fault fire."""

from pathlib import Path
from typing import Any, Final

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.recordings.player import PlayOptions, play
from reasoner.waiting import wait_until
from tests.deploy.monitoring.monitored import MonitoredStack, monitored_stack
from tests.services.job_runs import ClusterJob, database, job_config, records_in, shop_messages, topics_in
from tests.support.reshaped import spread

pytestmark = pytest.mark.deploy

NAME: Final = "watched"
PARTITIONS: Final = 4
OPERATOR: Final = "flink_taskmanager_job_task_operator_"


def started_job(stack: MonitoredStack, folder: Path) -> ClusterJob:
    """Start the shipped job with topics and tables of its own."""
    settings = stack.settings
    jdbc = database(settings.postgres_sqlalchemy_url, settings.postgres_jdbc_url, NAME)
    config = job_config(NAME, settings.kafka_bootstrap, jdbc, folder)
    job = ClusterJob(config, FlinkRest(settings.flink_rest_url), folder)
    job.prepare(PARTITIONS)
    return job.started()


def test_monitoring(tmp_path: Path, verdict: dict[str, Any]) -> None:
    with monitored_stack(tmp_path / "stack") as stack:
        job = started_job(stack, tmp_path)
        messages = list(spread(shop_messages(), PARTITIONS, 1))
        play(messages, stack.settings.kafka_bootstrap, topics_in(job.config), PlayOptions(compression="gzip"))
        job.wait_until_read()

        records = records_in(messages)
        counted = f'sum({OPERATOR}records_folded_total{{job_name="{NAME}"}})'
        expected = records.total() - records["severe"]
        wait_until(lambda: stack.prometheus.value(counted) == expected, f"{counted} is {expected}", 120.0)
        verdict["records"] = expected
        verdict["targets"] = stack.prometheus.healthy_targets()
        verdict["metrics"] = len(stack.prometheus.names())
        verdict["pass"] = True
