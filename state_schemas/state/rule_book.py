"""State of the rules topic: what it publishes, and which of its records were rejected."""

import msgspec

from state_schemas.aggregates.published_rules import PublishedRule
from state_schemas.codec import zipped
from state_schemas.contracts.insight import Insight


class RuleBookState(msgspec.Struct, array_like=True, gc=False):
    """All rules of the topic. Both maps are by rule id, ascending by the offset of their newest record."""

    published: dict[str, PublishedRule] = {}
    # Insights about rejected records, until the rule is published or removed.
    rejected: dict[str, Insight] = {}
    # Topic id, end offset and number of rules of the submission with whose rules the state began.
    submission: tuple[str, int, int] = ("", -1, 0)
    # The highest one of the records that were read; -1 where they were of another topic, or may have been.
    offset: int = -1


RULE_BOOK_CODEC = zipped("rule-book", RuleBookState)
