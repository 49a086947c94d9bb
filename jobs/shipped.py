"""Shipped sequence rules: a file each in `shipped_rules`."""

from pathlib import Path
from typing import Final, NamedTuple

from jobs.rules import read_rule_files
from state_schemas.contracts.rules import Rule
from udfs.rules.compiled import RuleIndex, compile_rules

__all__ = ["SHIPPED", "ShippedRule", "rules_by_default", "shipped_rules"]

SHIPPED: Final = Path(__file__).with_name("shipped_rules")
_ON_REQUEST: Final = frozenset(("job-not-finished",))  # the time that a job may take is known to its users alone


class ShippedRule(NamedTuple):
    """A shipped rule."""

    rule: Rule

    @property
    def on_by_default(self) -> bool:
        """Return whether it is right without a setting of the user."""
        return self.rule.id not in _ON_REQUEST

    @property
    def state(self) -> str:
        return "active" if self.on_by_default else "on request"


def rules_by_default() -> RuleIndex:
    """Return the active rules: those of a job with `detection.shipped_rules`."""
    index, _ = compile_rules(one.rule for one in shipped_rules() if one.on_by_default)
    return index


def shipped_rules() -> tuple[ShippedRule, ...]:
    """Return the shipped rules by id."""
    found = read_rule_files([SHIPPED])
    assert not found.faults, f"a shipped rule has faults: {found.faults[0]}"
    return tuple(map(ShippedRule, found.rules))
