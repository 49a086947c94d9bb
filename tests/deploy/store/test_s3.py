"""A job whose tables, checkpoints and savepoints are on S3, which is killed: nothing is lost, nothing twice."""

from pathlib import Path
from typing import Any

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.recordings.player import PlayOptions, play
from reasoner.runs.job_process import write_config
from reasoner.stack import RunningStack
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.deploy.store.conftest import PARTITIONS, config_on_s3
from tests.faults.terminal import Person
from tests.services.job_runs import ClusterJob, records_in, shop_messages, topics_in
from tests.support.reshaped import spread

pytestmark = pytest.mark.deploy


def test_s3(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    config = config_on_s3(stack, "stored", tmp_path)
    rest = FlinkRest(stack.settings.flink_rest_url)
    job = ClusterJob(config, rest, tmp_path)
    file = write_config(config, tmp_path / "stored.yaml")
    person = Person(tmp_path, stack, file)
    messages = list(spread(shop_messages(), PARTITIONS, 1))
    job.prepare(PARTITIONS)
    person.run("submit", "--config", str(file), "--target", rest.url)
    play(messages, config.kafka.bootstrap_servers, topics_in(config), PlayOptions(compression="zstd"))
    job.wait_until_read()
    person.run("stop", "stored", "--target", rest.url, "--drain")
    records = records_in(messages)
    verdict |= {"spans_sent": records["traces"], "spans_in_rollups": job.spans_in_rollups()}
    assert job.spans_in_rollups() == dict.fromkeys(RESOLUTIONS_S, records["traces"])
    assert job.severe_lines() == dict.fromkeys((10, 60), records["severe"])
    verdict["pass"] = True
