"""The rules topic, of which a submission reads the rules with which stages begin. No JVM is started."""

from jobs.rules_topic import NO_ID, known_id
from operators.correlate.rule_book import RuleBook, begin
from operators.machine import Key, Stage
from state_schemas.aggregates.published_rules import TopicAtStart
from tests.support.rule_records import record, text
from udfs.rules.publishing import published_rules


def test_the_id_of_a_broker_that_has_none_is_unknown() -> None:
    """Two topics of it would pass for one."""
    assert (known_id(NO_ID), known_id("T")) == ("", "T")


def test_the_book_begins_with_the_rules_of_the_submission() -> None:
    published = published_rules([record(0, text())])
    begun = begin(
        Stage("rule-book", RuleBook(), Key("all", lambda event: "rules")),
        TopicAtStart(tuple(published.values()), 5, "T"),
    )
    assert begun.machine.initial("rules").published == published
    assert begun.uid == "rule-book"
