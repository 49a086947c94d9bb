"""Visibility of recorded faults: signals that differ from usual are visible, others are not."""

from collections import Counter

import pytest

from reasoner.evaluate.nezha import Fault, RecordedInterval, Truth
from reasoner.evaluate.result import Result
from reasoner.evaluate.visible import Seen, differences, markdown

FAULT = Fault("D1", "cart", "return", 3_000_000)
FREE = [RecordedInterval(start_s * 1000, (start_s + 180) * 1000, ()) for start_s in (0, 1_000, 2_000)]
TRUTH = Truth((FAULT,), (*FREE, RecordedInterval(2_940_000, 3_120_000, ("D1",))), frozenset({("web", "cart")}))
SECONDS = [
    second for interval in TRUTH.intervals for second in range(interval.start_ms // 1000, interval.end_ms // 1000)
]


def seen(usual: int, after: int) -> Seen:
    """Return a request each second and a signal in `usual` of ten seconds, from the fault on in `after` of ten."""
    counts = Counter(
        {second: 1 for second in SECONDS if second % 10 < (after if second >= FAULT.at_ms // 1000 else usual)}
    )
    return Seen(Counter(SECONDS), {("other lines", "x"): counts, ("calls", "y"): Counter(SECONDS)})


@pytest.mark.parametrize(("usual", "after", "visible"), [(10, 0, True), (0, 5, True), (5, 5, False), (5, 4, False)])
def test_signals_that_stop_or_begin_with_the_fault_are_visible_and_others_are_not(
    usual: int, after: int, visible: bool
) -> None:
    found = list(differences(TRUTH, FAULT, "cart", seen(usual, after)))
    assert [(signal, difference.what) for signal, difference in found] == ([("other lines", "x")] if visible else [])


def test_a_difference_that_a_fault_free_minute_has_too_is_not_visible() -> None:
    stops = seen(10, 0)
    for second in range(1_000, 1_120):
        del stops.counts["other lines", "x"][second]
    assert list(differences(TRUTH, FAULT, "cart", stops)) == []


def test_the_report_has_count_and_expected_count_and_place_of_each_signal() -> None:
    signals = {"other lines": {"nats": 9.0, "at": "ts-cart-service", "what": "x", "count": 0, "expected": 12.4}}
    row = {"fault": "D1", "type": "return", "service": "ts-cart-service", "found_as": "", "signals": signals}
    table = markdown(Result("visible", "s", {"visible_exception_return": 1.0, "visible_recall": 0.0}, [row]))
    assert "| D1 | return | ts-cart-service |  | 0 for 12 at cart |  |  | no |" in table
