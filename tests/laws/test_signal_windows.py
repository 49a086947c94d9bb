"""Laws of windows of signals: what they hold does not depend on how they were merged, and is bounded."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from state_schemas.aggregates.rule_signals import RuleHit, RuleSignal, ServiceEdge, Signal, SignalWindow
from tests.support.traffic import START_MS
from udfs.rules import windows
from udfs.rules.windows import by_window, merge_windows, signals_of

signals = st.builds(
    lambda at_ms, number, revision, subject, step: RuleSignal(
        "prod",
        1,
        f"service|{subject}",
        # A span can be sent twice, with another time.
        Signal(START_MS + at_ms + number, f"id-{number}", revision, "span", subject, "t"),
        (RuleHit("r@1#00", step, 0),) if revision % 2 == 0 else (),
    ),
    *(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3), st.sampled_from("ab"), st.just(0)),
)


def one(signal: RuleSignal) -> SignalWindow:
    return SignalWindow(((signal,),), edges=(ServiceEdge(signal.subject, signal.signal.signal_id[:4]),))


def batched(signals: list[RuleSignal]) -> SignalWindow:
    return merge_windows(window for _, window in by_window(signals, 10_000))


@given(found=st.lists(signals, max_size=40), order=st.randoms(use_true_random=False), parts=st.integers(1, 6))
def test_a_window_is_the_same_however_it_was_merged(found: list[RuleSignal], order: object, parts: int) -> None:
    plain = signals_of(merge_windows(map(one, found)))
    shuffled = list(found)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    groups = [merge_windows(map(one, shuffled[first::parts])) for first in range(parts)]
    merged = reduce(lambda left, right: merge_windows((left, right)), groups, SignalWindow())
    assert merged.edges == tuple(sorted({edge for signal in found for edge in one(signal).edges}))
    assert signals_of(merged) == plain == signals_of(merge_windows((merged, merged)))
    assert signals_of(batched(found)) == signals_of(batched(shuffled)) == plain
    assert [signal.signal.revision for signal in plain] == [
        max(other.signal.revision for other in found if (other.signal.signal_id, other.subject) == key)
        for key in ((signal.signal.signal_id, signal.subject) for signal in plain)
    ]


def signal_at(number: int, subject: str = "a") -> RuleSignal:
    signal = Signal(START_MS + number, f"id-{number:06}", 0, "span", subject, "t")
    return RuleSignal("prod", 1, f"service|{subject}", signal, (RuleHit("r@1#00", 0, 0),))


def test_signals_are_added_at_a_cost_that_grows_with_the_logarithm_of_their_number() -> None:
    window, touched = SignalWindow(), 0
    for number in range(1_500):
        before = window.chunks
        window = merge_windows((window, one(signal_at(number))))
        touched += sum(len(chunk) for chunk in window.chunks if chunk not in before)
    assert len(window) == 1_500
    assert touched < 1_500 * 2 * 11, f"{touched} signals were copied, log2(1500) is 10.6"
    assert len(window.chunks) <= 11


def test_of_very_many_signals_of_one_step_the_first_and_the_last_are_kept_and_the_others_counted() -> None:
    limit, number = windows.STEP_SIGNALS_MAX, 5 * windows.STEP_SIGNALS_MAX
    window = merge_windows(one(signal_at(place)) for place in range(number))
    kept = [signal.signal.at_ms - START_MS for signal in signals_of(window)]
    assert kept == [*range(limit), *range(number - limit, number)]
    assert window.dropped == number - len(window) > 0


def test_of_very_many_subjects_some_are_left_out_whole() -> None:
    number = windows.SIGNALS_MAX + 5_000
    window = merge_windows([SignalWindow((tuple(signal_at(place, f"s{place // 2}") for place in range(number)),))])
    held = [signal.subject for signal in signals_of(window)]
    assert len(held) == windows.SIGNALS_MAX
    assert sum(held.count(subject) == 2 for subject in held[:100]) >= 99


def test_signals_that_come_at_once_beyond_the_limit_are_counted_too() -> None:
    number = 5 * windows.STEP_SIGNALS_MAX
    ((_, window),) = by_window([signal_at(place) for place in range(number)], 3_600_000)
    assert len(window) == 2 * windows.STEP_SIGNALS_MAX
    assert window.dropped == number - len(window)


def test_a_signal_that_comes_again_in_another_window_is_one_of_each() -> None:
    """However both travel: a batch of the two is read as two batches are."""
    early, late = (
        replace(signal_at(at_ms), signal=replace(signal_at(at_ms).signal, signal_id="x")) for at_ms in (1, 25_000)
    )
    for batch in ([early, late], [late, early]):
        assert [signals_of(window) for _, window in by_window(batch, 10_000)] == [(early,), (late,)]
