"""Laws of the usual rate of lines: an interval without lines counts as its windows would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state_schemas.state.log_patterns import ServiceLines
from tests.support.traffic import START_MS, WINDOW_MS
from udfs.detect.log_patterns.rate import Rates
from udfs.stats.poisson_change import ChangeConfig

OBSERVED_WINDOWS = 30
FIRST_MS = START_MS - START_MS % 300_000
EMPTY = Rates(ServiceLines(), ChangeConfig(), WINDOW_MS, OBSERVED_WINDOWS * WINDOW_MS)


@given(st.lists(st.integers(0, 90), max_size=20), st.integers(1, 5))
def test_silence_in_observed_minutes_counts_as_windows_without_lines(silent: list[int], every: int) -> None:
    """Windows without lines precede each window with lines; one of `every` intervals of five minutes is observed."""
    at_once = one_by_one = EMPTY
    index = 0
    for windows in silent:
        for _ in range(windows):
            one_by_one = one_by_one.after_window(_start_ms(index, every), 0)
            index += 1
        start_ms = _start_ms(index, every)
        minutes = (index // OBSERVED_WINDOWS + 1) * 5
        at_once = at_once.after_silence(start_ms, minutes).after_window(start_ms, 7)
        one_by_one = one_by_one.after_window(start_ms, 7)
        index += 1
        assert at_once.service.windows == one_by_one.service.windows
        # After a gap in the data the recent windows become past at once, so their decay differs by a few windows.
        left, right = (lines.past_windows + len(lines.recent) for lines in (at_once.service, one_by_one.service))
        assert left == pytest.approx(right, rel=1e-6 if every == 1 else 0.05)


def _start_ms(index: int, every: int) -> int:
    interval, window = divmod(index, OBSERVED_WINDOWS)
    return FIRST_MS + (interval * every * OBSERVED_WINDOWS + window) * WINDOW_MS
