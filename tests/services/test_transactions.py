"""Open transactions on a real broker: they hide messages, are listed, and only orphans are aborted."""

from contextlib import closing
from dataclasses import dataclass

import pytest
from kafka import KafkaProducer

from reasoner.clients.flink_rest import FlinkRest, JobInfo
from reasoner.clients.insight_topic import hidden, read_all
from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.clients.transactions import of_job
from reasoner.runs.orphans import abort_orphans
from state_schemas.contracts.settings import ReaderConfig

pytestmark = pytest.mark.services

TOPIC = "orphans-insights"


@dataclass(frozen=True, slots=True)
class EndedJob(FlinkRest):
    """A cluster on which the job has ended after its third checkpoint."""

    state: str = "CANCELED"

    def overview(self) -> list[JobInfo]:
        return [JobInfo("a" * 32, "orphans", self.state, 0, 1 << 60)]

    def last_checkpoint(self, job_id: str) -> int:
        return 3


def send(kafka: str, transactional_id: str, value: bytes, commit: bool = False) -> None:
    """Send a message in a transaction that stays open, as that of a killed job, unless it is committed."""
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=transactional_id)
    with closing(producer):
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(TOPIC, value)
        producer.flush()
        if commit:
            producer.commit_transaction()


def test_an_orphan_hides_messages_until_it_is_aborted_and_what_a_restore_commits_stays(kafka: str) -> None:
    create_topics(kafka, {TOPIC: TopicSpec(1, KEEP_FOR_EVER_MS)})
    config = ReaderConfig.model_validate(
        {
            "name": "orphans",
            "kafka": {"bootstrap_servers": kafka, "topics": {"insights": TOPIC}},
            "lake": {"uri": "jdbc:sqlite:/x", "warehouse": "file:///x"},
        }
    )
    send(kafka, f"orphans-{TOPIC}-0-4", b"lost with the job")
    send(kafka, "other-orphans-0-9", b"of another job", commit=True)
    assert read_all(kafka, TOPIC) == []
    found = hidden(kafka, TOPIC)
    assert found is not None
    assert found.messages > 0
    assert found.since_ms is not None, "the broker says since when"
    assert [one.transactional_id for one in of_job(config)] == [f"orphans-{TOPIC}-0-4"]

    running = abort_orphans(config, EndedJob("http://flink", state="RUNNING"))
    assert (running.orphans, len(running.kept)) == ([], 1)
    assert "runs on http://flink" in running.why
    assert [one.transactional_id for one in abort_orphans(config, EndedJob("http://flink")).orphans] == [
        f"orphans-{TOPIC}-0-4"
    ]
    assert read_all(kafka, TOPIC) == [b"of another job"]
    assert hidden(kafka, TOPIC) is None

    send(kafka, f"orphans-{TOPIC}-0-3", b"of the last checkpoint")
    kept = abort_orphans(config, EndedJob("http://flink"))
    assert (kept.orphans, [one.transactional_id for one in kept.kept]) == ([], [f"orphans-{TOPIC}-0-3"])
    assert "a restore from checkpoint 3" in kept.why
