"""Arithmetic of the scores, and the scores of two systems if their data is present."""

from pathlib import Path

import pytest

from reasoner.evaluate.loghub import evaluate, grouping_accuracy, top_overlap
from tests.support.recorded import LOGHUB as DATA


@pytest.mark.parametrize(
    ("groups", "accuracy"),
    [
        ("aabbc", 1.0),
        ("xxyyz", 1.0),
        ("aabbb", 0.4),  # two events in one group: neither is right
        ("aabdc", 0.6),  # an event in two groups
        ("aaaaa", 0.0),
    ],
)
def test_a_group_is_right_when_it_is_exactly_an_event(groups: str, accuracy: float) -> None:
    assert grouping_accuracy(groups, "aabbc") == accuracy


def test_the_top_is_right_as_far_as_it_shows_the_lines_of_the_most_frequent_events() -> None:
    events = "a" * 30 + "b" * 20 + "cdefghij" * 2 + "k"
    whole = [("a", 30), ("b", 20), *((event, 2) for event in "cdefghij")]
    assert top_overlap(whole, events) == 1.0
    assert top_overlap([("a", 30), ("b", 10), ("b", 10), *whole[2:]], events) == 64 / 66, "b takes two places"
    assert top_overlap([("k", 1), *whole[1:]], events) == 36 / 66


def test_events_as_frequent_as_the_tenth_are_as_right() -> None:
    events = "a" * 9 + "bcdefghijklm"
    assert top_overlap([("a", 9), *((event, 1) for event in "mlkjihgfe")], events) == 1.0


def test_two_systems_are_grouped_as_people_group_them(tmp_path: Path) -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there")
    for name in ("OpenStack", "Spark"):
        (tmp_path / name).symlink_to(DATA / name)
    scores = evaluate(tmp_path).scores
    assert scores["mean_ga"] > 0.99
    assert scores["mean_ga"] == scores["mean_ga_shuffled_min"] == scores["mean_ga_shuffled_max"]
    assert scores["topk_overlap"] > 0.99
    assert scores["mean_ga_drain3"] < scores["mean_ga"]
