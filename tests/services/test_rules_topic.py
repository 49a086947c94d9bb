"""`reasoner rules publish|list|remove` on a real broker: safe to repeat, and refused as a whole."""

from pathlib import Path

import pytest

from reasoner.clients.rules_topic import read_rule_records
from reasoner.runs.job_process import write_config
from tests.services.job_runs import job_config
from tests.support.commands import run
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
