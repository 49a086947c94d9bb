"""Laws of how often lines usually come: silence counts as the panes that it is made of would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state_schemas.patterns import ServiceLines
from tests.traffic import PANE_MS, START_MS
from udfs.line_rates import observe_pane, observe_silence
from udfs.rate_change import ChangeConfig

CONFIG = ChangeConfig()
MINUTE_PANES = 6
FIRST_MS = START_MS - START_MS % 60_000


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(1, 5))
def test_silence_in_minutes_heard_is_panes_without_lines(silent: list[int], every: int) -> None:
    """Stretches of silence before each pane with lines; of the minutes only one in `every` is heard."""
    at_once, one_by_one = ServiceLines(), ServiceLines()
    place = 0
    for panes in silent:
        for _ in range(panes):
            one_by_one = observe_pane(one_by_one, _start_ms(place, every), 0, CONFIG)
            place += 1
        start_ms = _start_ms(place, every)
        at_once = observe_silence(at_once, place // MINUTE_PANES + 1, start_ms, start_ms + PANE_MS, CONFIG)
        at_once = observe_pane(at_once, start_ms, 7, CONFIG)
        one_by_one = observe_pane(one_by_one, start_ms, 7, CONFIG)
        place += 1
        assert at_once.panes == one_by_one.panes
        assert at_once.past_panes + len(at_once.recent) == pytest.approx(
            one_by_one.past_panes + len(one_by_one.recent), abs=len(silent) / 20
        )


def _start_ms(place: int, every: int) -> int:
    minute, pane = divmod(place, MINUTE_PANES)
    return FIRST_MS + (minute * every * MINUTE_PANES + pane) * PANE_MS
