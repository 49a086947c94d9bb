"""Compiled rules: all versions of all rules, indexed by what their conditions demand of a signal."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Final, NamedTuple

from state_schemas.aggregates.published_rules import FOREVER_MS, PublishedRule, RuleVersion
from state_schemas.aggregates.rule_signals import RuleHit
from state_schemas.contracts.rules import SOURCES, Condition, Part, Rule, SourceName
from udfs.otlp.decoder import AskedAttributes
from udfs.otlp.resource import short_name
from udfs.rules.conditions import Conditions, Fields, compile_conditions, exact_texts, field_fault
from udfs.rules.plan import SequencePlan, StepPlan
from udfs.rules.relations import relation_faults, relations_of

__all__ = ["CompiledRule", "ConditionFault", "RuleEntry", "RuleIndex", "by_of", "compile_rules", "rule_name", "text_of"]

# Fields by which conditions are found, the most selective first.
_INDEXED: Final = ("pattern", "name", "event_name", "service", "kind")
VERSIONS_CACHED: Final = 8_192  # of all rules of a process: they are compiled once for all its subtasks


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One version of a rule. from_ms, until_ms, removed_ms: as those of a `RuleVersion`.

    key: name and a hash of all that decides a match, as states and signals hold it. A rule that was changed without a
    new version has another one, so that no state of the old one is read as its.
    """

    key: str
    rule: Rule
    plan: SequencePlan
    from_ms: int
    until_ms: int
    removed_ms: int
    # Whether no step is an insight.
    is_of_records: bool


class RuleEntry(NamedTuple):
    """A part of a step, with the event times between which it counts."""

    rule: str
    by: str
    step: int
    part: int
    conditions: Conditions
    distinct: str
    from_ms: int
    until_ms: int

    @property
    def is_dated(self) -> bool:
        """Return whether there are event times at which the entry does not count."""
        return not self.holds_at(0) or self.until_ms < FOREVER_MS

    def holds_at(self, at_ms: int) -> bool:
        """Return whether the entry counts at an event time."""
        return self.from_ms <= at_ms < self.until_ms

    @property
    def fields(self) -> frozenset[str]:
        """Return the fields of a record that are read: by conditions, as its subject, or to count distinct values."""
        kind, _, name = self.by.partition(":")
        others = {self.distinct, f"attributes.{name}" if kind == "attribute" else ""} - {""}
        return self.conditions.fields() | others

    def counts(self, fields: Fields) -> bool:
        """Return whether there is a value to count, where distinct values are counted."""
        return not self.distinct or fields.get(self.distinct) not in (None, "", ())

    def hit(self, fields: Fields) -> RuleHit:
        value = fields.get(self.distinct) if self.distinct else None
        return RuleHit(self.rule, self.step, self.part, "" if value is None else short_name(str(value)))


@dataclass(frozen=True)
class RuleIndex:
    """All compiled rules."""

    # By id.
    published: dict[str, PublishedRule]
    # By key; those with faults are left out.
    rules: Mapping[str, CompiledRule]
    # By source, field and its value: the parts that demand this value; by ("", "") those that demand none.
    entries: Mapping[SourceName, Mapping[tuple[str, str], Sequence[RuleEntry]]]

    @cached_property
    def needs_edges(self) -> bool:
        """Return whether a rule asks which service calls which."""
        steps = (step for compiled in self.rules.values() for step in compiled.rule.steps)
        return any(step.calls or step.called_by for step in steps)

    @classmethod
    def of(cls, published: Iterable[PublishedRule] = ()) -> "RuleIndex":
        """Compile rules. O(entries), beside the rules that this process has not compiled before."""
        by_id = {rule.rule_id: rule for rule in published}
        rules: dict[str, CompiledRule] = {}
        entries: dict[SourceName, dict[tuple[str, str], list[RuleEntry]]] = {}
        for version in (version for rule in by_id.values() for version in rule.versions):
            compiled = _compiled(version)
            if compiled.faults:
                continue
            rules[compiled.rule.key] = compiled.rule
            for source, key, entry in compiled.entries:
                entries.setdefault(source, {}).setdefault(key, []).append(entry)
        return cls(by_id, rules, entries)

    def updated(self, changes: Sequence[PublishedRule]) -> "RuleIndex":
        """Return the index with these rules of the topic, where they are newer than its own.

        Those without versions are taken out: a job may live through any number of them. A rule of a file stays: which
        of the two holds must not depend on when a record comes. O(entries), and nothing where no rule is newer.
        """
        by_id = dict(self.published)
        for change in changes:
            before = by_id.get(change.rule_id)
            if before is None or 0 <= before.offset < change.offset:
                by_id[change.rule_id] = change
        counted = {rule_id: rule for rule_id, rule in by_id.items() if rule.versions}
        return self if counted == self.published else RuleIndex.of(counted.values())

    def hits(self, source: SourceName, fields: Fields, at_ms: int) -> Iterator[tuple[str, RuleHit]]:
        """Yield (by, hit) of each step that a signal of this time fulfils. O(parts that demand its values)."""
        entries = self.entries.get(source, {})
        if not entries:
            return
        values = ((name, fields.get(name)) for name in _INDEXED)
        for key in (("", ""), *((name, str(value).casefold()) for name, value in values if value is not None)):
            for entry in entries.get(key, ()):
                if entry.holds_at(at_ms) and entry.conditions.hold(fields) and entry.counts(fields):
                    yield entry.by, entry.hit(fields)

    def asked(self, source: SourceName) -> AskedAttributes:
        """Return the attributes of records that the rules read, beyond those that each job reads."""
        listed = (entry for entries in self.entries.get(source, {}).values() for entry in entries)
        fields = sorted({field for entry in listed for field in entry.fields})
        of_record, of_resource = (
            tuple(field.removeprefix(prefix) for field in fields if field.startswith(prefix))
            for prefix in ("attributes.", "resource.")
        )
        return AskedAttributes(of_record, of_resource)

    def __reduce__(self) -> tuple[Callable[[tuple[PublishedRule, ...]], "RuleIndex"], tuple[tuple[PublishedRule, ...]]]:
        """Travel to the workers of Flink as text: compiled expressions cannot be pickled."""
        return RuleIndex.of, (tuple(self.published.values()),)


class ConditionFault(NamedTuple):
    """A condition that cannot be used. step: index of its step, -1 for the rule."""

    rule: Rule
    step: int
    text: str


def by_of(hits: Iterable[tuple[str, RuleHit]]) -> dict[str, set[RuleHit]]:
    """Return the hits of a signal by what their rules are keyed by."""
    found: dict[str, set[RuleHit]] = {}
    for by, hit in hits:
        found.setdefault(by, set()).add(hit)
    return found


def rule_name(rule: Rule) -> str:
    """Return the name of a version of a rule, as insights hold it."""
    return f"{rule.id}@{rule.version}"


def _key(rule: Rule) -> str:
    # Without defaults, so that a field that rules gain changes no key.
    others = {"title", "severity", "description", "suppress_ms", "effective_from"}
    deciding = rule.model_dump_json(exclude=others, exclude_defaults=True)
    return f"{rule_name(rule)}#{blake2b(deciding.encode(), digest_size=6).hexdigest()}"


def compile_rules(rules: Iterable[Rule]) -> tuple[RuleIndex, list[ConditionFault]]:
    """Return all rules, and the faults of each as sentences; a rule with faults is not in the index.

    Of the versions of a rule, each holds until the next one is effective: its partial matches go on after that. So a
    later version must be effective later.
    """
    listed: dict[str, list[Rule]] = {}
    for rule in rules:
        listed.setdefault(rule.id, []).append(rule)
    published: list[PublishedRule] = []
    faults: list[ConditionFault] = []
    for rule_id, versions in listed.items():
        versions.sort(key=lambda rule: rule.version)
        faults += (
            ConditionFault(after, -1, f"effective_from is not behind that of version {before.version}: it never holds")
            for before, after in pairwise(versions)
            if after.effective_ms <= before.effective_ms
        )
        ends_ms = [*(rule.effective_ms for rule in versions[1:]), FOREVER_MS]
        timed = tuple(
            RuleVersion(rule.version, text_of(rule), rule.effective_ms, until_ms)
            for rule, until_ms in zip(versions, ends_ms, strict=True)
        )
        published.append(PublishedRule(rule_id, timed))
        for rule, version in zip(versions, timed, strict=True):
            faults += (ConditionFault(rule, step, text) for step, text in _compiled(version).faults)
    return RuleIndex.of(published), faults


def text_of(rule: Rule) -> str:
    """Return a rule without its `effective_from`, as JSON: equal rules have equal texts."""
    return rule.model_dump_json(exclude={"effective_from"}, exclude_defaults=True)


class _Compiled(NamedTuple):
    """A version with its entries, and its faults by the index of their step."""

    rule: CompiledRule
    entries: tuple[tuple[SourceName, tuple[str, str], RuleEntry], ...]
    faults: tuple[tuple[int, str], ...]


@lru_cache(VERSIONS_CACHED)
def _compiled(version: RuleVersion) -> _Compiled:
    rule = Rule.model_validate_json(version.text)
    is_of_records = all(part.source != "insight" for step in rule.steps for part in step.parts)
    times = (version.from_ms, version.until_ms, version.removed_ms)
    compiled = CompiledRule(_key(rule), rule, _plan(rule), *times, is_of_records)
    entries: list[tuple[SourceName, tuple[str, str], RuleEntry]] = []
    faults: list[tuple[int, str]] = []
    for number, step in enumerate(rule.steps):
        texts = relation_faults(rule, number)
        for place, part in enumerate(step.parts):
            found, wrong = _entries(compiled, (number, place), part)
            entries += found
            texts += wrong
        faults += ((number, f"step {step.name}: {text}") for text in texts)
    return _Compiled(compiled, tuple(entries), tuple(faults))


def _entries(
    compiled: CompiledRule, place: tuple[int, int], part: Part
) -> tuple[list[tuple[SourceName, tuple[str, str], RuleEntry]], list[str]]:
    """Return the entries of a part, one for each of its conditions, and its faults."""
    rule, (number, index) = compiled.rule, place
    step, source = rule.steps[number], part.source
    faults = [fault] if (fault := _by_fault(rule.by, source)) else []
    if step.distinct and (fault := field_fault(source, step.distinct)):
        faults.append(f"distinct: {fault}")
    # Behind the next version a partial match can go on, but none can begin.
    waits_ms = rule.within + max(later.not_within or 0 for later in rule.steps)
    ends_ms = compiled.until_ms if number == 0 else min(compiled.removed_ms, compiled.until_ms + waits_ms)
    found = []
    for condition in part.conditions:
        conditions, wrong = compile_conditions(source, [condition])
        faults += wrong
        entry = RuleEntry(
            rule=compiled.key,
            by=rule.by,
            step=number,
            part=index if step.all_of else 0,  # of alternatives it does not matter which one came
            conditions=conditions,
            distinct=step.distinct or "",
            from_ms=compiled.from_ms,
            until_ms=ends_ms,
        )
        found += [(source, key, entry) for key in _keys(condition)]
    return found, faults


def _by_fault(by: str, source: SourceName) -> str:
    """Return why signals of a source have no value of `by`, "" if they have."""
    kind = by.partition(":")[0]
    have = {"operation": ("insight", "span"), "attribute": ("span", "log")}.get(kind, SOURCES)
    return "" if source in have else f"{source} has no {by}, expected steps of {' or '.join(have)} in a rule by {kind}"


def _keys(condition: Condition) -> list[tuple[str, str]]:
    """Return the values of an indexed field of which one must hold; [("", "")] where the condition demands none."""
    for name in _INDEXED:
        values = condition.get(name)
        listed = values if isinstance(values, list) else [values]
        if exact := exact_texts(listed):
            return [(name, text) for text in sorted(exact)]
    return [("", "")]


def _plan(rule: Rule) -> SequencePlan:
    return SequencePlan(tuple(_step_plan(rule, number) for number in range(len(rule.steps))), rule.within)


def _step_plan(rule: Rule, number: int) -> StepPlan:
    step = rule.steps[number]
    return StepPlan(
        within_ms=step.within or rule.within,
        absent_ms=step.not_within or 0,
        optional=step.optional,
        count=step.count or 1,
        distinct=bool(step.distinct),
        parts=len(step.all_of or ()) or 1,
        relations=relations_of(rule, number),
    )
