"""The doctor on a real broker: what stands in the last messages of each topic, and what is missing."""

from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from kafka import KafkaProducer

from jobs.settings import JobConfig
from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.topic_samples import newest_messages
from reasoner.clients.topics import HOUR_MS, TopicSpec, create_topics
from reasoner.runs.doctor import Doctor
from reasoner.stack.settings import free_ports
from reasoner.traffic import shop

pytestmark = pytest.mark.services

START_MS = 1_790_000_000_000


def test_each_topic_has_its_lines_and_each_fault_its_mending(kafka: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = JobConfig.model_validate(
        {
            "kafka": {
                "bootstrap_servers": kafka,
                "transaction_timeout_ms": 20_000_000,
                "topics": {
                    "traces": "doctor-traces",
                    "logs": "doctor-logs",
                    "metrics": "doctor-metrics",
                    "insights": "doctor-insights",
                    "rejected": "doctor-rejected",
                },
            },
            "lake": {"uri": f"jdbc:sqlite:{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/warehouse"},
        }
    )
    lake.create_tables(config.lake)
    compacted = TopicSpec(1, -1, cleanup_policy="compact")
    specs = {"doctor-traces": TopicSpec(1, -1), "doctor-logs": TopicSpec(1, HOUR_MS // 6), "doctor-insights": compacted}
    create_topics(kafka, specs)
    sent = [message for message in shop.messages(1, START_MS, 20_000, None) if message.topic_kind == "traces"]
    with closing(KafkaProducer(bootstrap_servers=kafka)) as producer:
        for message in sent:
            producer.send("doctor-traces", message.value, timestamp_ms=message.timestamp_ms + 600_000)
        producer.send("doctor-logs", b"ERROR the oven is cold")
        producer.flush()
    found = list(Doctor(config, "job.yaml", FlinkRest(f"http://127.0.0.1:{port}"), START_MS + 700_000).findings())
    lines = {finding.text: finding.level for finding in found}

    def level(part: str) -> str:
        (text,) = (text for text in lines if part in text)
        return lines[text]

    assert level("does not answer") == "fault", "the cluster"
    assert level("no topic doctor-metrics, which the job reads") == "fault"
    assert level("no topic doctor-rejected, which the job writes") == "fault"
    assert level("transaction_timeout_ms is 20000000, and the broker at") == "fault"
    assert level("doctor-insights is compacted, which keeps one insight of a service") == "fault"
    assert level("doctor-insights: readers see all messages") == "ok"
    assert level(f"tables in {config.lake.uri}") == "ok"
    assert level("doctor-traces: 1 partition, kept for ever, last message") == "ok"
    assert level("100.0 % of") == "fault", "records ten minutes old"
    assert level("detection.lateness_ms to 660000") == "fault"
    assert level("doctor-logs: 1 partition, kept 10 min, expected over 20 min") == "fault"
    assert level("1 of 1 messages are raw text") == "fault"


def test_messages_come_from_the_whole_last_hour_of_each_partition_and_each_once(kafka: str) -> None:
    """Agents that ship what they kept send the oldest first: the last messages alone would not show their age."""
    count = 3_000
    create_topics(kafka, {"sampled": TopicSpec(2, -1), "sampled-few": TopicSpec(1, -1)})
    with closing(KafkaProducer(bootstrap_servers=kafka)) as producer:
        for number in range(count):
            at_ms = START_MS + number * 2 * HOUR_MS // count
            producer.send("sampled", b"%d" % number, partition=number % 2, timestamp_ms=at_ms)
        for number in range(3):
            producer.send("sampled-few", b"%d" % number, timestamp_ms=START_MS)
        producer.flush()
    found = newest_messages(kafka, "sampled", START_MS + HOUR_MS, 200)
    assert len(set(found)) == len(found) == 400
    assert {found[0].timestamp_ms, found[-1].timestamp_ms} == {START_MS + HOUR_MS, START_MS + 2 * HOUR_MS - 2_400}
    gaps = [after.timestamp_ms - before.timestamp_ms for before, after in pairwise(found)]
    assert max(gaps) < HOUR_MS / 9, "all parts of the hour are among them"
    few = newest_messages(kafka, "sampled-few", START_MS + HOUR_MS, 200)
    assert [sample.value for sample in few] == [b"0", b"1", b"2"], "all of a partition that is quiet"
