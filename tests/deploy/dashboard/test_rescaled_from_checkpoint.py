"""A job goes on from its last checkpoint with other numbers of subtasks: every span counts once.

Flink makes the names of RocksDB's logs of whole paths. Those of such a restore were longer than 255 characters in a
folder of this length, and the job failed again and again.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reasoner.recordings.player import play
from reasoner.stack import RunningStack
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.services.job_runs import ClusterJob, records_in, shop_messages, topics_in
from tests.support.reshaped import spread
from tests.support.submitted import PARTITIONS, prepared

pytestmark = pytest.mark.deploy

SUBTASKS = (2, 1, 4)  # the cluster has 4 slots


def test_rescaled_from_checkpoint(session: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    job, _ = prepared(session, "rescaled", tmp_path, signals=("traces",))
    messages = [message for message in shop_messages() if message.topic_kind == "traces"]
    sent = list(spread(messages, PARTITIONS, 1))
    third = -(-len(sent) // len(SUBTASKS))

    point, restarts = "", []
    for part, subtasks in enumerate(SUBTASKS):
        job = with_subtasks(job, subtasks).started(point)
        play(sent[part * third : (part + 1) * third], session.settings.kafka_bootstrap, topics_in(job.config))
        job.wait_until_read()
        restarts.append(job.rest.restarts(job.job_id))
        point = job.rest.last_point(job.job_id)
        if part + 1 < len(SUBTASKS):
            job.rest.cancel(job.job_id, deadline_s=60.0)
    job.drain()

    verdict |= {
        "subtasks": SUBTASKS,
        "restarts": restarts,
        "spans_sent": records_in(messages)["traces"],
        "spans_in_rollups": job.spans_in_rollups(),
    }
    assert restarts == [0, 0, 0]
    assert verdict["spans_in_rollups"] == dict.fromkeys(RESOLUTIONS_S, verdict["spans_sent"])
    verdict["pass"] = True


def with_subtasks(job: ClusterJob, count: int) -> ClusterJob:
    engine = job.config.engine.model_copy(update={"parallelism": count})
    return replace(job, config=job.config.model_copy(update={"engine": engine}))
