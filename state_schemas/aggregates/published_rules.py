"""Records of the rules topic, and the rules that they publish."""

from typing import Final, NamedTuple

import msgspec

from state_schemas.codec import packed
from state_schemas.telemetry.message import KafkaPosition

FOREVER_MS: Final = 2**62  # end of what has no end, epoch ms


class RuleRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record of the rules topic. key: id of the rule. value: one version of it, YAML or JSON; None removes the rule.

    timestamp_ms: Kafka's, epoch ms. topic_id: Kafka's, another one for a topic that is created anew; "" if unknown.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str
    value: bytes | None
    topic_id: str = ""

    @classmethod
    def at(cls, position: KafkaPosition, key: bytes | None, value: bytes | None, topic_id: str = "") -> "RuleRecord":
        """Make the record of a message, whose bytes may be of any type. A key that is no UTF-8 is that of no rule."""
        name = bytes(key or b"").decode(errors="replace")
        return cls(*position, name, None if value is None else bytes(value), topic_id)


class RuleVersion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A version of a rule: its text as JSON, and event times in epoch ms.

    - from_ms, until_ms: its first step can come from the one on and before the other; the next version takes over.
    - removed_ms: no step counts from then on, and partial matches end.
    """

    version: int
    text: str
    from_ms: int
    until_ms: int = FOREVER_MS
    removed_ms: int = FOREVER_MS


class PublishedRule(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A rule with all its versions, as of one record of the rules topic.

    - versions: ascending; () for a rule of which nothing counts any more.
    - offset: of the record. Of two of one rule, that with the higher offset holds; -1 for a rule of a file.
    - topic_id: of the record. Offsets of two topics cannot be compared: the topic of the submission holds.
    """

    rule_id: str
    versions: tuple[RuleVersion, ...]
    offset: int = -1
    topic_id: str = ""

    def is_of_another(self, topic_id: str) -> bool:
        """Return whether the rule is known to be of another topic."""
        return bool(self.topic_id and topic_id) and self.topic_id != topic_id

    @property
    def is_removed(self) -> bool:
        return not self.versions or self.versions[-1].removed_ms != FOREVER_MS

    @property
    def ended_ms(self) -> int:
        """Return the event time from which nothing of the rule counts."""
        return self.versions[-1].removed_ms if self.versions else 0


class TopicAtStart(NamedTuple):
    """The rules of the topic when a job is submitted, the offset behind them, and Kafka's id of the topic or ""."""

    published: tuple[PublishedRule, ...] = ()
    end_offset: int = 0
    topic_id: str = ""


PUBLISHED_CODEC = packed("published-rule", PublishedRule)
