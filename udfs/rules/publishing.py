"""What a record of the rules topic changes: a pure function of the records so far, whenever a subtask reads them.

A version takes effect at its `effective_from`, and no earlier than READ_MS after Kafka's timestamp of its record: each
subtask has read it by then, so that all judge an event time by the same version, and a replay does too.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, NamedTuple

from msgspec.structs import replace

from state_schemas.aggregates.published_rules import PublishedRule, RuleRecord, RuleVersion
from state_schemas.contracts.rules import TIME_MS_END, Rule
from udfs.rules.compiled import compile_rules, text_of
from udfs.rules.document import read_rules

__all__ = ["READ_MS", "Published", "publish", "published_rules", "put"]

READ_MS: Final = 30_000  # a subtask reads a record within some seconds, unless the job is down (docs/rules.md)
BEGIN_MS: Final = 946_684_800_000  # 2000-01-01; an earlier Kafka timestamp is in seconds, or of no clock
KEPT_MS: Final = 5 * 24 * 3_600_000  # longest rule, absence, suppression and lateness together: 4 days and some
RULES_MAX: Final = 1_000  # of the topic
VERSIONS_MAX: Final = 20  # of a rule; the oldest is given up


class Published(NamedTuple):
    """What a record changes. change: the rule as it holds now, None for no change. fault: why it is rejected."""

    change: PublishedRule | None = None
    fault: str = ""


def publish(published: Mapping[str, PublishedRule], record: RuleRecord) -> Published:
    """Return what a record changes. Never raises; O(length of the record + versions of its rule)."""
    if not BEGIN_MS <= record.timestamp_ms < TIME_MS_END:
        found = f"found the Kafka timestamp {record.timestamp_ms}, expected epoch ms from 2000 to 2261"
        return Published(fault=f"{found}: mend the clock of its producer")
    before = published.get(record.key)
    if record.value is None:
        return _removed(before, record)
    rule = _rule(record.key, record.value)
    if isinstance(rule, str):
        return Published(fault=rule)
    if before is None and (fault := _too_many(published, record.timestamp_ms)):
        return Published(fault=fault)
    return _with_version(before, rule, record)


def published_rules(records: Iterable[RuleRecord]) -> dict[str, PublishedRule]:
    """Return the rules that records publish, in the order of their newest records; faulty records are left out."""
    published: dict[str, PublishedRule] = {}
    for record in records:
        if (change := publish(published, record).change) is not None:
            put(published, change, record.timestamp_ms)
    return published


def put(published: dict[str, PublishedRule], change: PublishedRule, now_ms: int) -> tuple[PublishedRule, ...]:
    """Put a change in place; take out those of which nothing counts any more, and return them without versions."""
    published.pop(change.rule_id, None)
    published[change.rule_id] = change
    over = [name for name, rule in published.items() if _is_over(rule, now_ms)]
    for name in over:
        del published[name]
    return tuple(PublishedRule(name, (), change.offset, change.topic_id) for name in over)


def _is_over(rule: PublishedRule, now_ms: int) -> bool:
    """Return whether nothing of a rule counts any more."""
    return rule.ended_ms < now_ms - KEPT_MS


def _too_many(published: Mapping[str, PublishedRule], now_ms: int) -> str:
    """Return why there is no place for a further rule, "" if there is. Those that are over leave with a change."""
    counted = [rule for rule in published.values() if not _is_over(rule, now_ms)]
    if len(counted) < RULES_MAX:
        return ""
    removed = sum(rule.is_removed for rule in counted)
    found = f"found {len(counted)} rules in the topic, {removed} of them removed, expected fewer than {RULES_MAX}"
    return f"{found}: remove some; each counts for five days after its removal"


def _rule(key: str, value: bytes) -> Rule | str:
    """Return the rule of a record, or why it is none."""
    found = read_rules("record", value)
    if found.faults:
        return _sentence(fault.text for fault in found.faults)
    if len(found.rules) != 1:
        return f"has {len(found.rules)} rules, expected one: a record for each"
    (rule,) = found.rules
    if rule.id != key:
        return f"the key of the record is {key[:80]!r}, expected the id of its rule, {rule.id}"
    return _sentence(fault.text for fault in compile_rules([rule])[1]) or rule


def _sentence(faults: Iterable[str]) -> str:
    return "; ".join(islice(faults, 3))


def _removed(before: PublishedRule | None, record: RuleRecord) -> Published:
    if before is None or before.is_removed:
        return Published()
    ended = tuple(_ended(version, record.timestamp_ms + READ_MS) for version in before.versions)
    return Published(PublishedRule(record.key, ended, record.offset, record.topic_id))


def _ended(version: RuleVersion, removed_ms: int) -> RuleVersion:
    ends_ms = min(version.removed_ms, removed_ms)
    return replace(version, until_ms=min(version.until_ms, ends_ms), removed_ms=ends_ms)


def _with_version(before: PublishedRule | None, rule: Rule, record: RuleRecord) -> Published:
    """Add a version, unless it is there already. A rule that was removed comes back with a new version."""
    effective_ms = record.timestamp_ms + READ_MS
    from_ms = max(rule.effective_ms, effective_ms)
    new = RuleVersion(rule.version, text_of(rule), from_ms)
    if before is None:
        return Published(PublishedRule(rule.id, (new,), record.offset, record.topic_id))
    last = before.versions[-1]
    if rule.version <= last.version:
        is_same = last.text == new.text and not before.is_removed
        known = f"version {last.version} of {rule.id} was published, expected version {last.version + 1} or later"
        return Published(fault="" if is_same else f"found version {rule.version}: {known}")
    # A version that would begin no earlier than this one never holds.
    begun = [
        replace(version, until_ms=min(version.until_ms, from_ms))
        for version in before.versions
        if version.from_ms < from_ms and version.until_ms > effective_ms - KEPT_MS
    ]
    return Published(PublishedRule(rule.id, (*begun[1 - VERSIONS_MAX :], new), record.offset, record.topic_id))
