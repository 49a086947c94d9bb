"""Laws of the service graph of sequence rules: what is known in a window depends on the calls up to it alone."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from state_schemas.aggregates.rule_signals import ServiceEdge
from udfs.rules.service_graph import EDGE_KEPT_MS, INTERVAL_MS, after_window, is_passed_on

EDGE = ServiceEdge("checkout", "cart")
WINDOW_MS = INTERVAL_MS // 4
WINDOWS = 3 * EDGE_KEPT_MS // WINDOW_MS
places = st.integers(0, 8) | st.integers(0, WINDOWS - 1)


def known_in(starts_ms: Iterable[int]) -> list[int]:
    """Return the windows in which the edge counts, if these have a call."""
    with_call, known, found = set(starts_ms), dict[ServiceEdge, int](), []
    for start_ms in range(0, WINDOWS * WINDOW_MS, WINDOW_MS):
        known = after_window(known, [EDGE] if start_ms in with_call else [], start_ms)
        found += [start_ms] if EDGE in known else []
    return found


@given(calls=st.lists(places, max_size=12))
def test_what_is_passed_on_decides_whatever_the_order_of_the_calls(calls: list[int]) -> None:
    passed, last_ms = [], None
    for place in calls:
        if is_passed_on(last_ms, place * WINDOW_MS):
            last_ms = place * WINDOW_MS
            passed.append(last_ms)
    assert known_in(passed) == known_in(place * WINDOW_MS for place in calls)


@given(calls=st.lists(places, min_size=1, max_size=4))
def test_an_edge_counts_from_the_window_of_its_first_call_for_a_day(calls: list[int]) -> None:
    found = set(known_in(place * WINDOW_MS for place in calls))
    for place in calls:
        start_ms = place * WINDOW_MS
        assert {start_ms, start_ms + WINDOW_MS} - {WINDOWS * WINDOW_MS} <= found
    assert min(found) == min(calls) * WINDOW_MS
    last_ms = max(calls) * WINDOW_MS
    assert min(last_ms + EDGE_KEPT_MS, WINDOWS * WINDOW_MS) - WINDOW_MS <= max(found)
    assert max(found) <= last_ms + EDGE_KEPT_MS + INTERVAL_MS
