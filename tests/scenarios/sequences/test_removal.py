"""Rules that are removed or changed while something of them is open."""

import pytest

from tests.support.sequences import SLOW_AND_SILENT, SLOW_THEN_FAILING, Rules


@pytest.mark.parametrize(
    ("gone_at_s", "course"),
    [
        (150, ("retracted", "a late signal, or a change of the rule: the match no longer holds")),
        (350, ("closed", "its rule was removed or changed")),
    ],
    ids=["while its windows are not final", "after that"],
)
@pytest.mark.parametrize("change", ["removed", "changed"])
def test_a_match_of_a_rule_that_is_gone_ends_and_nothing_is_read_as_the_new_one(
    change: str, gone_at_s: int, course: tuple[str, str]
) -> None:
    rules = Rules(SLOW_THEN_FAILING)
    rules.active(gone_at_s)
    rules.signal(10, "latency_spike")
    rules.signal(70, "error_ratio")
    rules.signal(80, "latency_spike", "shop")
    assert rules.until(gone_at_s) == [("sequence_match", "open")]
    other = SLOW_THEN_FAILING.replace("id: slow", "id: other")
    if change == "changed":
        other = SLOW_THEN_FAILING + "  - {name: third, insight: {kind: telemetry_gap}}\n"
    after = Rules(other)
    after.graph = rules.graph  # the state of the old rules, read by the machines of the new ones
    after.replace_machines()
    after.active(800)
    after.until(1_500)
    assert [(match.status, match.reason) for match in after.emitted] == [course]


@pytest.mark.parametrize(
    ("text", "removed_s", "statuses"),
    [
        (SLOW_THEN_FAILING, 71, ["open", "closed"]),
        (SLOW_THEN_FAILING, 70, []),
        (SLOW_AND_SILENT, 75, ["open", "closed"]),
        (SLOW_AND_SILENT, 70, []),
    ],
    ids=["a match before", "a match after", "an absence that is over before", "an absence that is not"],
)
def test_a_rule_has_the_matches_that_were_complete_before_its_removal(
    text: str, removed_s: int, statuses: list[str]
) -> None:
    """The removal is in the window from 70 s on, which is not left out."""
    rules = Rules(text, removed_s=removed_s)
    rules.active(400)
    rules.signal(10, "latency_spike")
    if text == SLOW_THEN_FAILING:
        rules.signal(70, "error_ratio")
    rules.until(100)
    rules.until(900)
    assert [match.status for match in rules.emitted] == statuses
    assert all(match.reason == "its rule was removed or changed" for match in rules.emitted[1:])


def test_partial_matches_end_with_the_removal_and_are_counted() -> None:
    rules = Rules(SLOW_THEN_FAILING, removed_s=75)
    rules.active(400)
    rules.signal(70, "latency_spike")
    rules.signal(80, "error_ratio")
    assert rules.until(900) == []
    assert rules.graph.counts["partial_matches_given_up_total"] == 1
