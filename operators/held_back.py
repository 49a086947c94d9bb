"""Suppression of an insight of one service while the environment explains it."""

from collections.abc import Callable

from state_schemas.contracts.insight import Insight


def goes_on(passed: dict[str, bool], insight: Insight, may_begin: Callable[[], bool]) -> bool:
    """Return whether a revision is emitted.

    Revisions of an emitted insight are always emitted. A suppressed insight can be emitted later, but not with its last
    revision. passed: ids of open insights that were emitted; changed in place.
    """
    was_passed = passed.pop(insight.insight_id, False)
    if insight.status in ("closed", "retracted"):
        return was_passed
    is_passed = was_passed or may_begin()
    if is_passed:
        passed[insight.insight_id] = True
    return is_passed
