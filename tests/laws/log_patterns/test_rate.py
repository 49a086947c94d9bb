"""Laws of how often lines usually come: silence counts as the panes that it is made of would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state_schemas.state.log_patterns import ServiceLines
from tests.support.traffic import PANE_MS, START_MS
from udfs.detect.log_patterns.rate import observe_pane, observe_silence
from udfs.stats.poisson_change import ChangeConfig

CONFIG = ChangeConfig()
HEARD_PANES = 30
FIRST_MS = START_MS - START_MS % 300_000


@given(st.lists(st.integers(0, 90), max_size=20), st.integers(1, 5))
def test_silence_in_minutes_heard_is_panes_without_lines(silent: list[int], every: int) -> None:
    """Stretches of silence before each pane with lines; of all five minutes one in `every` is heard."""
    at_once, one_by_one = ServiceLines(), ServiceLines()
    place = 0
    for panes in silent:
        for _ in range(panes):
            one_by_one = observe_pane(one_by_one, _start_ms(place, every), 0, CONFIG)
            place += 1
        start_ms = _start_ms(place, every)
        minutes = (place // HEARD_PANES + 1) * 5
        at_once = observe_silence(at_once, minutes, start_ms, start_ms + PANE_MS, HEARD_PANES * PANE_MS, CONFIG)
        at_once = observe_pane(at_once, start_ms, 7, CONFIG)
        one_by_one = observe_pane(one_by_one, start_ms, 7, CONFIG)
        place += 1
        assert at_once.panes == one_by_one.panes
        # Behind a hole the window is past at once, and fades by a few panes more or less.
        left, right = (one.past_panes + len(one.recent) for one in (at_once, one_by_one))
        assert left == pytest.approx(right, rel=1e-6 if every == 1 else 0.05)


def _start_ms(place: int, every: int) -> int:
    stretch, pane = divmod(place, HEARD_PANES)
    return FIRST_MS + (stretch * every * HEARD_PANES + pane) * PANE_MS
