"""Uneven topics: a partition without messages delays no insight."""

import pytest

from reasoner.clients.insight_topic import last_revisions
from reasoner.runs import demo
from reasoner.waiting import wait_until
from tests.services.job_runs import PLAN, ClusterJob

pytestmark = pytest.mark.services


def test_a_partition_without_messages_delays_no_insight(silent: ClusterJob) -> None:
    """The results equal those of an even run."""
    wait_until(lambda: bool(silent.insight_records()), "an insight beside a silent partition", 120.0, 1.0)
    silent.wait_until_read()
    silent.drain()
    held = last_revisions(record.value for record in silent.insight_records())
    assert demo.faults(PLAN, held, last_revisions(silent.table_bodies())) == []
