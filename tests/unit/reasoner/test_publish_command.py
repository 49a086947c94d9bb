"""`reasoner rules publish|list|remove` on records of a topic, without a broker."""

from collections.abc import Callable

import pytest

from reasoner.errors import CommandFailed
from reasoner.runs import publish
from state_schemas.aggregates.published_rules import RuleRecord
from state_schemas.contracts.rules import TIME_MS_END
from state_schemas.contracts.settings import Kafka
from tests.support.rule_records import NOW_MS, record, text

KAFKA = Kafka()


def has(monkeypatch: pytest.MonkeyPatch, *records: RuleRecord, newest_ms: int = NOW_MS) -> list[object]:
    """Let the topic have these records, and the telemetry this newest timestamp; return what is sent."""
    sent: list[object] = []

    def send(bootstrap: str, topic: str, found: object) -> None:
        sent.append(found)

    monkeypatch.setattr(publish, "read_rule_records", lambda bootstrap, topic: list(records))
    monkeypatch.setattr(publish, "newest_timestamp_ms", lambda bootstrap, topic: newest_ms)
    monkeypatch.setattr(publish, "send_rule_records", send)
    return sent


def test_the_list_of_a_topic_is_printed_whatever_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    has(
        monkeypatch,
        record(0, text()),
        record(1, text(version=2, effective="effective_from: 9999-12-31T23:59:59-23:59\n")),
        record(2, text(version=3), 2**62),
        record(3, text("b", effective="effective_from: 2261-12-31T23:59:59Z\n"), key="b"),
        record(4, None, TIME_MS_END - 1, "b"),
        record(5, b"\xff\x00", key="c"),
    )
    found = [(rule.id, rule.version, holds) for rule, holds in publish.rules_of_topic(KAFKA)]
    assert found == [
        ("a", 1, "from 2023-11-14T22:13:50+00:00"),
        ("b", 1, "from 2261-12-31T23:59:59+00:00, removed at 2262-01-01T00:00:29.999000+00:00"),
    ]


@pytest.mark.parametrize(
    "command",
    [
        lambda: publish.publish_rules(KAFKA, [], ahead_ms=60_000),
        lambda: publish.remove_rules(KAFKA, ["a"]),
    ],
    ids=["publish", "remove"],
)
def test_nothing_is_sent_where_the_telemetry_has_a_timestamp_of_a_far_year(
    monkeypatch: pytest.MonkeyPatch, command: Callable[[], object]
) -> None:
    """Microseconds in place of milliseconds: what is sent would hold from then on, and the job would reject it."""
    sent = has(monkeypatch, record(0, text()), newest_ms=NOW_MS * 1_000)
    with pytest.raises(CommandFailed, match=r"newest Kafka timestamps of 17\d+ in trace_events, .* before 2262: mend"):
        command()
    assert sent == []
