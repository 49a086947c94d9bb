"""Letting through what a service says of itself where its environment knows better."""

from collections.abc import Callable

from state_schemas.contracts.insight import Insight


def goes_on(passed: dict[str, bool], insight: Insight, may_begin: Callable[[], bool]) -> bool:
    """Whether a revision is let through: what was told goes on; what was not may begin later, but not with its end.

    told: ids of open insights that were let through; changed in place.
    """
    was_passed = passed.pop(insight.insight_id, False)
    if insight.status in ("closed", "retracted"):
        return was_passed
    is_passed = was_passed or may_begin()
    if is_passed:
        passed[insight.insight_id] = True
    return is_passed
