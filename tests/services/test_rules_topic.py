"""`reasoner rules publish|list|remove|backtest` on a real broker: safe to repeat, and refused as a whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.settings import load
from reasoner.clients.broker import admin_of
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.rules_topic import read_rule_records, send_rule_records
from reasoner.clients.topic_messages import offsets_since, records_between
from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics, missing_topics, source_names
from reasoner.errors import CommandFailed
from reasoner.recordings.message import Message
from reasoner.recordings.player import play
from reasoner.runs.job_process import write_config
from reasoner.runs.preflight import Preflight
from reasoner.stack.environment import flink_env
from reasoner.waiting import wait_until
from tests.services.job_runs import job_config, topics_in
from tests.support.commands import run
from tests.support.pool_lines import POOL, START_NS, line
from tests.support.rule_records import text as rule_text
from tests.unit.rules.hostile import GOOD
from udfs.rules.publishing import published_rules

pytestmark = pytest.mark.services
TOPIC = "rules-of-a-test"


@pytest.fixture
def job(kafka: str, tmp_path: Path) -> Path:
    config = job_config("rules-topic", kafka, "jdbc:sqlite:/none", tmp_path)
    topics = config.kafka.topics.model_copy(update={"rules": TOPIC})
    return write_config(
        config.model_copy(update={"kafka": config.kafka.model_copy(update={"topics": topics})}), tmp_path / "job.yaml"
    )


def test_rules_are_published_listed_and_removed(
    job: Path, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reasoner(*words: str) -> tuple[object, str]:
        code, said = run(monkeypatch, *words), capsys.readouterr()
        return code, said.out + said.err

    rules, config = tmp_path / "rules.yaml", ("--config", str(job))
    rules.write_text(GOOD)
    assert reasoner("topics", "create", "--sources", *config)[0] == 0
    code, said = reasoner("rules", "publish", str(rules), *config)
    assert (code, said.partition(" holds from 20")[0]) == (0, "a-rule version 1")
    assert reasoner("rules", "publish", str(rules), *config) == (0, "a-rule version 1 is published already\n")
    assert len(read_rule_records(kafka, TOPIC)) == 1, "what is there is not sent again"

    rules.write_text(GOOD.replace("title: t", "title: other") + "---\n" + GOOD.replace("a-rule", "b-rule"))
    code, said = reasoner("rules", "publish", str(rules), *config)
    assert code == 1
    assert "1 fault, nothing was sent:\n  a-rule: found version 1: version 1 of a-rule was published" in said
    assert len(read_rule_records(kafka, TOPIC)) == 1

    rules.write_text(GOOD.replace("title: t", "title: other").replace("version: 1", "version: 2"))
    assert reasoner("rules", "publish", str(rules), *config)[0] == 0
    code, said = reasoner("rules", "list", *config)
    assert [line.split()[:2] for line in said.splitlines()[1:]] == [["a-rule", "1"], ["a-rule", "2"]]
    assert reasoner("rules", "remove", "c-rule", *config) == (
        1,
        "reasoner: 1 fault, nothing was sent:\n  c-rule is not in the topic, which has a-rule\n",
    )
    assert reasoner("rules", "remove", "a-rule", *config)[0] == 0
    assert reasoner("rules", "remove", "a-rule", *config) == (0, "a-rule is removed already\n")
    assert all(rule.is_removed for rule in published_rules(read_rule_records(kafka, TOPIC)).values())
    assert "removed at 20" in reasoner("rules", "list", *config)[1]


def test_a_backtest_reads_what_the_partitions_of_a_topic_have(
    job: Path, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """300 lines in turn in two partitions, of which each is polled several times: in another order none would match."""
    config, rules = load(job), tmp_path / "pool.yaml"
    rules.write_text(POOL)
    create_topics(kafka, dict.fromkeys(source_names(config.kafka), TopicSpec(2, KEEP_FOR_EVER_MS)))
    bodies = ("connection pool exhausted", "request timed out after 30 s")
    lines = ((at_s, line(f"service-{at_s // 2}", at_s, bodies[at_s % 2])) for at_s in range(300))
    first_ms = START_NS // 1_000_000
    messages = [Message("logs", text.encode(), first_ms + at_s * 1_000, at_s % 2) for at_s, text in lines]
    play(messages, kafka, topics_in(config))
    for words, pairs in ((("--since", "1h"), 150), (("--offsets", f"{config.kafka.topics.logs}/0:0-149"), 0)):
        code = run(monkeypatch, "rules", "backtest", str(rules), "--config", str(job), "--json", *words)
        said = capsys.readouterr()
        assert code == 0, said.err
        found = json.loads(said.out)
        assert (found["insights"], found["in_order"]) == (pairs, {"pool": 150, "timeout": pairs})


def test_a_backtest_of_what_retention_deletes_while_it_is_read_fails(job: Path, kafka: str) -> None:
    topics = topics_in(load(job))
    name = f"{topics['logs']}-deleted"
    create_topics(kafka, {name: TopicSpec(1, KEEP_FOR_EVER_MS)})
    first_ms = START_NS // 1_000_000
    play([Message("logs", b"x", first_ms + at_ms, 0) for at_ms in range(5)], kafka, topics | {"logs": name})
    offsets = offsets_since(kafka, [name], 1_000)
    with admin_of(kafka) as admin:
        admin.delete_records(dict.fromkeys(offsets, 3))
    with pytest.raises(CommandFailed, match=f"offset 0 of {name}/0 was deleted meanwhile: begin later"):
        list(records_between(kafka, offsets, 0))


def test_a_topic_of_rules_that_is_not_compacted_is_found_before_the_job_starts(job: Path, kafka: str) -> None:
    config = load(job)
    topics = config.kafka.topics.model_copy(update={"rules": "rules-that-are-lost"})
    config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"topics": topics})})
    create_topics(kafka, {topics.rules: TopicSpec(2, KEEP_FOR_EVER_MS)})
    faults = [text for text in Preflight("insights", config, str(job), FlinkRest("")).topic_faults() if "lost" in text]
    assert [" has 2 partitions" in faults[0], " cleanup.policy delete" in faults[1]] == [True, True]


# The topic is read by the JVM that submits a job; none is started.
AT_START = """
import json, sys
from jobs.rules_topic import topic_at_start
from state_schemas.contracts.settings import Kafka, Topics
found = topic_at_start(Kafka(bootstrap_servers=sys.argv[1], topics=Topics(rules=sys.argv[2])))
print(json.dumps([found.topic_id, found.end_offset, [(rule.rule_id, rule.topic_id) for rule in found.published]]))
"""


def test_a_topic_that_is_created_anew_under_its_name_is_another_one(kafka: str) -> None:
    name = "rules-of-a-topic-that-is-created-anew"
    ids = []
    for version in (1, 2):
        create_topics(kafka, {name: TopicSpec(1, KEEP_FOR_EVER_MS, "compact")})
        send_rule_records(kafka, name, [("a", rule_text(version=version), START_NS // 1_000_000)])
        command = [sys.executable, "-c", AT_START, kafka, name]
        done = subprocess.run(command, env=flink_env(), capture_output=True, text=True, timeout=120, check=True)
        topic_id, end_offset, rules = json.loads(done.stdout.splitlines()[-1])
        assert (end_offset, rules) == (1, [["a", topic_id]])
        ids.append(topic_id)
        with admin_of(kafka) as admin:
            admin.delete_topics([name])
        wait_until(lambda: missing_topics(kafka, [name]) == [name], "the topic is deleted", 30)
    assert ids[0] != ids[1]
