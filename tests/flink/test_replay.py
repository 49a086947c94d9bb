"""Replay of one recording: Flink and the local engine give the same insights, line by line."""

import pytest
from own_detector.error_budget import SUBJECT

from state_schemas.contracts.insight import Insight, to_json
from tests.flink.conftest import Replays

pytestmark = pytest.mark.flink


def lines(insights: list[Insight]) -> list[bytes]:
    return [to_json(insight) for insight in insights]


def test_the_recording_is_hard(replays: Replays) -> None:
    assert replays.lateness.late > 3_000
    assert replays.lateness.too_late > 600
    assert replays.bad.dropped == 0


def test_flink_prints_the_lines_of_the_local_engine(replays: Replays) -> None:
    expected = [insight for insight in replays.local if insight.subject != SUBJECT]
    assert expected, "the planted incident must be found, or nothing is compared"
    assert lines(replays.shipped) == lines(expected)


def test_rules_match_on_both_engines(replays: Replays) -> None:
    matched = {insight.subject.partition("@")[0] for insight in replays.shipped if insight.kind.startswith("sequence")}
    assert matched == {"errors-then-ratio", "one-trace", "no-gap", "caller-fails"}


def test_four_subtasks_give_the_lines_of_the_local_engine(replays: Replays) -> None:
    assert lines(replays.extended) == lines(replays.local)


def test_a_detector_of_a_user_gives_the_same_insights_on_both_engines(replays: Replays) -> None:
    found = [insight for insight in replays.extended if insight.subject == SUBJECT]
    assert {"users"} <= {insight.service for insight in found}
    assert lines(found) == lines([insight for insight in replays.local if insight.subject == SUBJECT])


def test_a_sink_of_a_user_gets_each_insight(replays: Replays) -> None:
    assert lines(replays.sunk) == lines(replays.extended)
