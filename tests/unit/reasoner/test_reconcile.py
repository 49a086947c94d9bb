"""Reconciliation: what the topic of insights lacks, and how it is sent again."""

import msgspec
import pytest

from reasoner.clients.insight_topic import message
from reasoner.errors import WrongUse
from reasoner.runs import reconcile
from reasoner.runs.reconcile import lost
from state_schemas.contracts.insight import Insight
from tests.support.outputs import INSIGHT


def revision(name: str, number: int) -> Insight:
    return msgspec.structs.replace(INSIGHT, insight_id=name * 32, revision=number)


def test_only_the_newest_revision_that_the_topic_lacks_is_sent() -> None:
    in_table = [revision("a", 0), revision("a", 2), revision("a", 1), revision("b", 0), revision("c", 3)]
    in_topic = [revision("a", 1), revision("b", 0), revision("c", 3), revision("c", 2), revision("d", 0)]
    assert lost(in_table, in_topic) == [revision("a", 2)]
    assert lost(in_table, []) == [revision("a", 2), revision("b", 0), revision("c", 3)]
    assert lost([], in_topic) == []


def test_a_message_that_is_sent_again_has_the_id_of_its_revision() -> None:
    sent = message(revision("a", 2))
    assert dict(sent.headers)["ce_id"] == f"{'a' * 32}:2".encode()
    assert sent.key == f"{INSIGHT.env}|{INSIGHT.service}".encode()


def test_insights_older_than_the_topic_keeps_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoner.clients.topic_samples import TopicState
    from state_schemas.contracts.settings import ReaderConfig

    config = ReaderConfig.model_validate({"lake": {"uri": "jdbc:sqlite:/x", "warehouse": "file:///x"}})
    monkeypatch.setattr(reconcile, "topic_states", lambda bootstrap, names: {"insight_out": TopicState(4, 3_600_000)})
    with pytest.raises(WrongUse, match="insight_out keeps messages for 60 min only"):
        reconcile.lost_since(config, 0, 3_600_001)
