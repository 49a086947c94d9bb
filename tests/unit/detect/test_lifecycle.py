"""Life cycle of episodes: when one is updated, and with which reason it closes."""

from dataclasses import replace
from math import inf

import pytest

from state_schemas.state.detector import OpenEpisode
from udfs.detect.lifecycle import Course, Lifecycle

LIFE = Lifecycle("back to usual", "it has stayed", "no more spans", nats_close=6, close_after_ms=600, accept_ms=1_800)
RECOVERED, ACCEPTED = Course("closed", "back to usual"), Course("closed", "it has stayed")


class Episode(OpenEpisode, frozen=True, kw_only=True):
    start_ms: int = 0
    end_ms: int = 10


def test_an_episode_is_updated_after_three_windows_and_each_time_their_number_has_doubled() -> None:
    updated = [
        windows
        for windows in range(2, 100)
        if LIFE.course(Episode(windows=windows - 1), Episode(windows=windows)) == Course("updated")
    ]
    assert updated == [3, 6, 12, 24, 48, 96]


def test_a_window_that_does_not_count_is_no_update() -> None:
    assert LIFE.course(Episode(windows=6), Episode(windows=6, recovery=1.0)) is None


@pytest.mark.parametrize(
    ("after", "course"),
    [
        (Episode(recovery=5.9), None),
        (Episode(recovery=6.0), RECOVERED),
        (Episode(end_ms=1_799), None),
        (Episode(end_ms=1_800), ACCEPTED),
        (Episode(end_ms=1_800, windows=12), ACCEPTED),  # and not an update
        (Episode(end_ms=1_800, recovery=6.0), RECOVERED),
    ],
)
def test_an_episode_closes_at_its_limits_the_evidence_for_its_end_first(after: Episode, course: Course | None) -> None:
    assert LIFE.course(Episode(), after) == course


def test_without_a_limit_an_anomaly_never_becomes_the_new_normal() -> None:
    assert replace(LIFE, accept_ms=inf).course(Episode(), Episode(end_ms=10**12)) is None


def test_an_episode_without_support_is_unseen_from_exactly_its_limit_on() -> None:
    episode = Episode(end_ms=1_000)
    assert [LIFE.is_unseen(episode, start_ms) for start_ms in (1_599, 1_600)] == [False, True]
