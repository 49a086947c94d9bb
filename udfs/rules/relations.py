"""Relations of the service graph between two steps of a rule: `calls`, `called_by`, `same_host`."""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.rule_signals import ServiceEdge, Signal
from state_schemas.contracts.rules import RelationName, Rule, RuleStep
from udfs.otlp.resource import UNKNOWN_HOST

__all__ = ["Edges", "Relation", "known_hosts", "relation_faults", "relations_of"]

Edges = Collection[ServiceEdge]
_NO_HOSTS: Final = frozenset((OTHER, UNKNOWN_HOST))  # they stand for several


class Relation(NamedTuple):
    """What a signal has to do with that of an earlier step. step: index of the earlier step."""

    name: RelationName
    step: int

    def holds(self, signal: Signal, earlier: Signal, edges: Edges) -> bool:
        """Return whether a signal is related to that of the earlier step."""
        if self.name == "same_host":
            return not set(signal.hosts).isdisjoint(earlier.hosts)
        return self._edge(signal, earlier) in edges

    def bound(self, signal: Signal) -> object:
        """Return all of a signal on which the relation depends."""
        return signal.hosts if self.name == "same_host" else signal.service

    def described(self, signal: Signal, earlier: Signal) -> str:
        """Return the relation of two signals as a timeline shows it."""
        if self.name == "same_host":
            return f"both on {min(set(signal.hosts) & set(earlier.hosts))}"
        return " calls ".join(self._edge(signal, earlier))

    def wanted(self, earlier: Signal) -> str:
        """Return what a step that has not come would have to be."""
        if self.name == "same_host":
            return f"on {' or '.join(earlier.hosts[:3])}"
        return f"of a service that {'calls ' + earlier.service if self.name == 'calls' else earlier.service + ' calls'}"

    def _edge(self, signal: Signal, earlier: Signal) -> ServiceEdge:
        pair = (signal.service, earlier.service)
        return ServiceEdge(*pair) if self.name == "calls" else ServiceEdge(*reversed(pair))


def known_hosts(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that stand for one host each, ascending."""
    return tuple(sorted(set(names) - _NO_HOSTS))


def relations_of(rule: Rule, number: int) -> tuple[Relation, ...]:
    """Return the relations of a step; those with a fault, which `relation_faults` names, are left out."""
    found = ((name, _index(rule, reference)) for name, reference in rule.steps[number].relations.items())
    return tuple(Relation(name, index) for name, index in found if 0 <= index < number)


def relation_faults(rule: Rule, number: int) -> list[str]:
    """Return why relations of a step cannot be used, a sentence each."""
    faults = []
    for name, reference in rule.steps[number].relations.items():
        if name == "same_host" and rule.by == "host":
            faults.append("same_host: found a rule by host, whose steps have one host already: leave it out")
        elif name != "same_host" and rule.by != "env":
            faults.append(f"{name}: found a rule by {rule.by}, expected by: env, whose steps can have several services")
        index = _index(rule, reference)
        earlier = rule.steps[index] if 0 <= index < number else None
        what = _why_no_reference(earlier) if earlier else "is no earlier step"
        if what:
            usable = [f"${step.name}" for step in rule.steps[:number] if not _why_no_reference(step)]
            expected = f"one of {', '.join(usable)}" if usable else "a step behind one that always has one signal"
            faults.append(f"{name}: {reference} {what}, expected {expected}")
    return faults


def _why_no_reference(step: RuleStep) -> str:
    """Return why no relation can refer to a step: it has not always one signal; "" if it has."""
    reasons = {
        "must not come": step.not_within,
        "is optional": step.optional,
        "counts several signals": step.count,
        "has several signals": step.all_of,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")


def _index(rule: Rule, reference: str) -> int:
    """Return the index of a step, -1 where there is none of this number or name."""
    name = reference.removeprefix("$")
    if name.isdigit():
        return int(name) - 1
    return next((number for number, step in enumerate(rule.steps) if step.name == name), -1)
