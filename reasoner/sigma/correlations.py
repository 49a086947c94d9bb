"""A Sigma correlation to the YAML document of a sequence rule.

`event_count` is a step that counts, `value_count` one that counts the values of a field, `temporal` a step of which all
parts must come, `temporal_ordered` a step for each rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sigma.correlations import (
    CorrelationConditionAND,
    SigmaCorrelationCondition,
    SigmaCorrelationConditionOperator,
    SigmaCorrelationRule,
    SigmaCorrelationType,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)
from sigma.rule import SigmaRule

from reasoner.sigma.alternatives import Alternatives, ValueTest, both
from reasoner.sigma.detections import alternatives_of, source_of
from reasoner.sigma.mapping import FieldMapping, Source
from reasoner.sigma.refused import Refused
from reasoner.sigma.rules import Imported, document, sourced, step_name
from state_schemas.contracts.rules import WITHIN_MS_MAX

__all__ = ["SigmaRules", "of_correlation", "references"]

_COUNTING: Final = (SigmaCorrelationType.EVENT_COUNT, SigmaCorrelationType.VALUE_COUNT)
_TEMPORAL: Final = (SigmaCorrelationType.TEMPORAL, SigmaCorrelationType.TEMPORAL_ORDERED)
_OF_RECORD: Final = ("service", "host", "env")  # fields of a record that rules can be by
# Rules by their id and by their name.
SigmaRules = Mapping[str, SigmaRule | SigmaCorrelationRule]


class _Base(NamedTuple):
    """A rule that a correlation refers to."""

    reference: str
    rule: SigmaRule
    source: Source
    alternatives: Alternatives


def of_correlation(rule: SigmaCorrelationRule, known: SigmaRules, mapping: FieldMapping) -> Imported:
    """Return the sequence rule of a correlation. Raises Refused, and the errors of pySigma."""
    if rule.type not in (*_COUNTING, *_TEMPORAL):
        message = (
            f"correlation {rule.type.name.lower()}: rules count records or values, and do not calculate with values"
        )
        raise Refused(message)
    seconds = rule.timespan.seconds
    if seconds * 1_000 > WITHIN_MS_MAX:
        message = f"timespan {rule.timespan.spec}: expected at most {WITHIN_MS_MAX // 3_600_000}h"
        raise Refused(message)
    within = f"{seconds}s"
    if not references(rule):
        message = "found no rule, expected the rules that are correlated"
        raise Refused(message)
    bases = [_base(reference, known, mapping) for reference in references(rule)]
    by = _by(rule, bases)
    return document(rule, by, within, _steps(rule, bases), [base.rule for base in bases])


def references(rule: SigmaCorrelationRule) -> list[str]:
    """Return the ids or names of the rules that a correlation refers to, in their order."""
    if rule.rules is not None:
        return [str(reference.reference) for reference in rule.rules]
    condition = rule.condition
    return condition.get_referenced_rules() if isinstance(condition, SigmaExtendedCorrelationCondition) else []


def _base(reference: str, known: SigmaRules, mapping: FieldMapping) -> _Base:
    rule = known.get(reference)
    if rule is None:
        message = f"rule {reference!r:.80} is in none of the files, or is no Sigma rule"
        raise Refused(message)
    if isinstance(rule, SigmaCorrelationRule):
        message = f"rule {reference!r:.80} is a correlation itself: a match is no signal of another rule"
        raise Refused(message)
    try:
        source = source_of(rule, mapping)
        return _Base(reference, rule, source, alternatives_of(rule, source))
    except Refused as refused:
        message = f"rule {reference!r:.80}: {refused}"
        raise Refused(message) from refused


def _by(rule: SigmaCorrelationRule, bases: Sequence[_Base]) -> str:
    """Return what all steps have in common: the field that all rules are grouped by."""
    fields = {field for name in rule.group_by or () for field in _fields(rule, name, bases)}
    if not fields:
        return "env"
    if len(fields) > 1:
        message = f"group-by gives {', '.join(sorted(fields))}; a rule is by one field, the same in all its steps"
        raise Refused(message)
    (field,) = fields
    if field.startswith("attributes."):
        return f"attribute:{field.removeprefix('attributes.')}"
    if field not in _OF_RECORD:
        message = f"group-by gives {field}; a rule is by {', '.join(_OF_RECORD)} or an attribute"
        raise Refused(message)
    return field


def _fields(rule: SigmaCorrelationRule, name: str, bases: Sequence[_Base]) -> Iterator[str]:
    """Yield the field of log records that a field, or an alias of fields, is for each rule."""
    alias = rule.aliases.aliases.get(name)
    for base in bases:
        if alias is None:
            yield base.source.field(name)
            continue
        meant = alias.mapping.get(SigmaRuleReference(base.reference))
        if meant is None:
            message = f"alias {name!r:.80} has no field for rule {base.reference!r:.80}"
            raise Refused(message)
        yield base.source.field(str(meant))


def _counting(rule: SigmaCorrelationRule, bases: Sequence[_Base]) -> dict[str, Any]:
    """Return the step of `event_count` or `value_count`."""
    least = _least(rule)
    if rule.type is SigmaCorrelationType.EVENT_COUNT:
        step = _one_step(rule, bases, "any_of")
        return step if least == 1 else {**step, "count": f">= {least}"}
    named = rule.condition.fieldref if isinstance(rule.condition, SigmaCorrelationCondition) else None
    names = named if isinstance(named, list) else [str(named)]
    fields = {field for name in names for field in _fields(rule, name, bases)}
    if len(fields) != 1:
        message = f"value_count of {', '.join(sorted(fields))}; a step counts the values of one field"
        raise Refused(message)
    (field,) = fields
    # A record without the field has no value that could be counted.
    has_value: Alternatives = [(ValueTest(field, "exists", False, (True,)),)]
    step = _one_step(rule, [base._replace(alternatives=both(base.alternatives, has_value)) for base in bases], "any_of")
    return step if least == 1 else {**step, "count": f">= {least}", "distinct": field}


def _least(rule: SigmaCorrelationRule) -> int:
    """Return the least number of records or values that match. Raises Refused."""
    condition = rule.condition
    assert isinstance(condition, SigmaCorrelationCondition), "pySigma allows others with temporal correlations alone"
    if rule.type is SigmaCorrelationType.EVENT_COUNT and condition.fieldref is not None:
        message = "event_count with a field; value_count counts the values of a field"
        raise Refused(message)
    operators = SigmaCorrelationConditionOperator
    least = condition.count + 1 if condition.op is operators.GT else condition.count
    if condition.op not in (operators.GT, operators.GTE) or not isinstance(least, int) or least < 1:
        message = (
            f"condition {condition.op.name.lower()} {condition.count}; a step counts `gte` or `gt` a whole number:"
            " that there were no more is only known when the time is over"
        )
        raise Refused(message)
    return least


def _check_all(rule: SigmaCorrelationRule, bases: Sequence[_Base]) -> None:
    """Raise Refused for a temporal correlation in which not all rules must match."""
    condition = rule.condition
    if isinstance(condition, SigmaExtendedCorrelationCondition):
        if not _is_conjunction(condition.parsed):
            message = f"condition {condition.expression!r:.80}; expected rules with `and` between them"
            raise Refused(message)
        return
    if condition.op is not SigmaCorrelationConditionOperator.GTE or condition.count != len(bases):
        message = (
            f"condition {condition.op.name.lower()} {condition.count} of {len(bases)} rules; expected that all match"
        )
        raise Refused(message)


def _is_conjunction(node: object) -> bool:
    if isinstance(node, CorrelationConditionAND):
        return all(map(_is_conjunction, node.args))
    return isinstance(node, SigmaRuleReference)


def _one_step(rule: SigmaCorrelationRule, bases: Sequence[_Base], link: str) -> dict[str, Any]:
    """Return the step of one or several rules. link: any_of, all_of."""
    parts = [sourced(base.alternatives) for base in bases]
    name = step_name(rule)
    return {"name": name, **parts[0]} if len(parts) == 1 else {"name": name, link: parts}


def _steps(rule: SigmaCorrelationRule, bases: Sequence[_Base]) -> list[dict[str, Any]]:
    """Return one step that counts or of which all must come, or one for each rule, in their order."""
    if rule.type in _COUNTING:
        return [_counting(rule, bases)]
    _check_all(rule, bases)
    return [_one_step(rule, bases, "all_of")] if rule.type is SigmaCorrelationType.TEMPORAL else _ordered(bases)


def _ordered(bases: Sequence[_Base]) -> list[dict[str, Any]]:
    """Return a step for each rule; of two with one name the later ones have a number."""
    steps: list[dict[str, Any]] = []
    for base in bases:
        name = step_name(base.rule)
        if any(step["name"] == name for step in steps):
            name = f"{name}-{len(steps) + 1}"
        steps.append({"name": name, **sourced(base.alternatives)})
    return steps
