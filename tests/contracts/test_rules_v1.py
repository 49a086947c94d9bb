"""Rules as savepoints hold them, in the book and in broadcast state: committed bytes are read as what they were.

`GOLDEN=write pytest tests/contracts` writes the files anew: only before a version ships, or for a new version.
"""

import os
from pathlib import Path

from operators.correlate.rule_book import RuleBook
from operators.machine import BEGIN_OF_TIME
from state_schemas.aggregates.published_rules import PUBLISHED_CODEC, PublishedRule, RuleVersion
from state_schemas.state.rule_book import RULE_BOOK_CODEC
from tests.support.rule_records import record, text

GOLDEN = Path(__file__).parent / "golden"
RULE = PublishedRule("a", (RuleVersion(1, "{}", 2, 3, 4), RuleVersion(5, "{ }", 6)), 7)


def golden(name: str, data: bytes) -> bytes:
    path = GOLDEN / f"{name}_v1.bin"
    if os.environ.get("GOLDEN") == "write":
        path.write_bytes(data)
    return path.read_bytes()


def test_a_published_rule_is_read_as_it_was_written() -> None:
    assert PUBLISHED_CODEC.decode(golden("published-rule", PUBLISHED_CODEC.encode(RULE))) == RULE


def test_a_book_is_read_as_it_was_written() -> None:
    state = RuleBook().initial("rules")
    for one in (record(0, text()), record(1, text(version=2)), record(2, b"id: [", key="b")):
        RuleBook().on_event(state, one, BEGIN_OF_TIME)
    assert state.offset == 2
    assert RULE_BOOK_CODEC.decode(golden("rule-book", RULE_BOOK_CODEC.encode(state))) == state
