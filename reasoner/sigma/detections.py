"""Detections of a Sigma rule to conditions on log records."""

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.rule import SigmaRule

from reasoner.sigma.alternatives import Alternatives, both, either, of_condition
from reasoner.sigma.mapping import FieldMapping, LogSource, Source
from reasoner.sigma.refused import Refused
from reasoner.sigma.values import of_field, of_keyword

__all__ = ["alternatives_of", "source_of"]


def source_of(rule: SigmaRule, mapping: FieldMapping) -> Source:
    """Return the log source of a rule. Raises Refused."""
    return mapping.source(named_source(rule))


def named_source(rule: SigmaRule) -> LogSource:
    """Return the log source as the rule names it. Raises Refused."""
    found = rule.logsource
    if found.custom_attributes:
        message = (
            f"the log source has {', '.join(map(str, found.custom_attributes))}, expected category, product, service"
        )
        raise Refused(message)
    return LogSource(*(str(name or "").lower() for name in (found.category, found.product, found.service)))


def alternatives_of(rule: SigmaRule, source: Source) -> Alternatives:
    """Return the conditions of a rule, with those of its log source. Raises Refused, and the errors of pySigma."""
    found: Alternatives = []
    for condition in rule.detection.parsed_condition:  # several conditions are alternatives
        found = either(found, _of_tree(condition.parsed, source, negated=False))
    return both(of_condition(source.where), found)  # first what most records of other sources do not fulfil


def _of_tree(node: object, source: Source, *, negated: bool) -> Alternatives:
    """Return the alternatives of a tree; a negation goes down to the single tests, by De Morgan's laws."""
    match node:
        case ConditionNOT():
            return _of_tree(node.args[0], source, negated=not negated)
        case ConditionAND() | ConditionOR():
            parts = [_of_tree(part, source, negated=negated) for part in node.args]
            link = both if isinstance(node, ConditionAND) is not negated else either
            found = parts[0]
            for part in parts[1:]:
                found = link(found, part)
            return found
        case ConditionFieldEqualsValueExpression():
            return of_field(node.field, node.value, source, negated)
        case ConditionValueExpression():
            return of_keyword(node.value, source, negated)
    message = f"found {type(node).__name__} in the condition, which is not known"
    raise Refused(message)
