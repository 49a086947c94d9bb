"""Buckets of subjects without a signal: most are so, and each gets the times of its environment."""

from operators.correlate.sequences import QUIET_MS, RecordSequences, SequenceConfig
from operators.emission import EmissionConfig
from state_schemas.aggregates.rule_signals import RuleClock
from tests.support.sequences import SLOW_AND_SILENT, Rules
from tests.support.traffic import START_MS, WINDOW_MS
from udfs.rules.compiled import RuleIndex

HOUR_MS = 3_600_000


def test_a_bucket_without_a_signal_is_evaluated_once_in_ten_minutes() -> None:
    emission = EmissionConfig()
    machine = RecordSequences(SequenceConfig(RuleIndex.of()), emission)
    state, fired, waiting = machine.initial("prod|1"), 0, 0
    for start_ms in range(START_MS, START_MS + HOUR_MS, WINDOW_MS):
        step = machine.on_event(state, RuleClock("prod", 1, (start_ms,)), start_ms)
        waiting = max(waiting, len(state.windows))
        assert step.timer_at_ms is not None
        if step.timer_at_ms <= start_ms + WINDOW_MS:
            fired += 1
            machine.on_timer(state, start_ms + WINDOW_MS)
    assert fired == HOUR_MS // QUIET_MS - 1, "the first windows are final two minutes later"
    assert waiting <= (QUIET_MS + emission.lateness_ms) // WINDOW_MS + 2


def test_a_late_signal_concludes_what_the_windows_before_it_have_shown() -> None:
    """The times of the environment came first, and nothing waited for them then."""
    in_order, late = Rules(SLOW_AND_SILENT), Rules(SLOW_AND_SILENT)
    in_order.signal(10, "latency_spike")
    for rules in (in_order, late):
        rules.active(130)
        rules.until(120)
    late.signal(10, "latency_spike")
    assert late.until(121) == [("sequence_missing", "open")]
    assert late.emitted == in_order.emitted


def test_what_waits_behind_its_last_signal_is_concluded_in_time() -> None:
    """Its window is final, and no other has a signal: the step that must not come within an hour is due."""
    rules = Rules(SLOW_AND_SILENT.replace("not_within: 1m", "not_within: 50m").replace("within: 10m", "within: 1h"))
    rules.signal(10, "latency_spike")
    rules.active(3_100)
    assert rules.until(3_000) == []
    assert rules.until(3_030) == [("sequence_missing", "open")]
