"""Shipped sequence rules, a file each: those of `shipped_rules`, and in `inactive_rules` those that lack a signal."""

from pathlib import Path
from typing import Final, NamedTuple, get_args

from jobs.rules import read_rule_files
from state_schemas.contracts.insight import Kind
from state_schemas.contracts.rules import Rule
from udfs.rules.compiled import RuleIndex, compile_rules

__all__ = ["SHIPPED", "ShippedRule", "rules_by_default", "shipped_rules"]

SHIPPED: Final = Path(__file__).with_name("shipped_rules")
_INACTIVE: Final = Path(__file__).with_name("inactive_rules")
_NOT_GIVEN: Final[frozenset[Kind]] = frozenset(("metric_shift",))  # kinds that no stage gives
_ON_REQUEST: Final = frozenset(("job-not-finished",))  # the time that a job may take is known to its users alone


class ShippedRule(NamedTuple):
    """A shipped rule."""

    rule: Rule
    # Kinds of insights that no stage gives; with one of them it is inactive.
    needs: tuple[str, ...] = ()

    @property
    def on_by_default(self) -> bool:
        """Return whether it is right without a setting of the user, once its signals exist."""
        return self.rule.id not in _ON_REQUEST

    @property
    def state(self) -> str:
        if self.needs:
            return f"inactive: needs {', '.join(self.needs)}"
        return "active" if self.on_by_default else "on request"


def rules_by_default() -> RuleIndex:
    """Return the shipped rules that are active in every job."""
    index, _ = compile_rules(one.rule for one in shipped_rules() if one.on_by_default and not one.needs)
    return index


def shipped_rules() -> tuple[ShippedRule, ...]:
    """Return the shipped rules, the active ones first, each group by id."""
    active = read_rule_files([SHIPPED])
    assert not active.faults, f"a shipped rule has faults: {active.faults[0]}"
    inactive = read_rule_files([_INACTIVE]).rules  # their conditions may name kinds that are not known yet
    return (*map(ShippedRule, active.rules), *(ShippedRule(rule, _needs(rule)) for rule in inactive))


def _needs(rule: Rule) -> tuple[str, ...]:
    """Return the kinds of insights of its steps that no stage gives."""
    parts = (part for step in rule.steps for part in step.parts if part.source == "insight")
    kinds = {str(condition.get("kind")) for part in parts for condition in part.conditions}
    return tuple(sorted(kinds - (frozenset(get_args(Kind)) - _NOT_GIVEN)))
