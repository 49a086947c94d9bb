"""Letting through what a service says of itself where its environment knows better."""

from collections.abc import Callable

from state_schemas.contracts.insight import Insight


def goes_on(told: dict[str, bool], insight: Insight, may_begin: Callable[[], bool]) -> bool:
    """Whether a revision is let through: what was told goes on; what was not may begin later, but not with its end.

    told: ids of open insights that were let through; changed in place.
    """
    was_told = told.pop(insight.insight_id, False)
    if insight.status in ("closed", "retracted"):
        return was_told
    is_told = was_told or may_begin()
    if is_told:
        told[insight.insight_id] = True
    return is_told
