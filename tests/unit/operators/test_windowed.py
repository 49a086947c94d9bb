"""States under other parameters, and insights that break their contract: the detector counts both and goes on."""

from collections import Counter
from dataclasses import replace

import msgspec

from operators.detectors.latency import LatencySpike
from operators.detectors.log_patterns import LogPatterns
from operators.emission import EmissionConfig
from operators.machine import END_OF_INPUT
from state_schemas.aggregates.logs import LogAggregate
from state_schemas.aggregates.spans import SpanAggregate, SpanTable
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Evidence, Insight, Window
from state_schemas.state.latency import LatencyModel
from tests.support.traffic import START_MS, WINDOW_MS, OneSpan, Sent, aggregates, pre_aggregated
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.log_patterns.rule import PatternConfig
from udfs.detect.service_window import ServiceWindow
from udfs.logs.masking.masker import MaskSettings

KEY = "prod|cart"
EMISSION = EmissionConfig()


def events(number: int) -> tuple[SpanAggregate, LogAggregate]:
    """Fold a message with one failed span, which is also logged, to spans and lines."""
    span = OneSpan("cart", START_MS + number * WINDOW_MS, 20, number + 1, error=True)
    message = Sent(span.end_ms + 1, (span,), 0, number)
    (logged,) = (output for output in pre_aggregated(message, "logs") if isinstance(output, LogAggregate))
    return aggregates(message)[0], logged


def test_a_state_under_other_parameters_is_discarded_and_counted_once() -> None:
    machine = LatencySpike(SpikeConfig(), EMISSION)
    old = machine.on_event(machine.initial(KEY), events(0)[0], START_MS).state
    assert old is not None
    old.fingerprint = "window_ms=5000"
    reset = machine.on_event(old, events(1)[0], START_MS)
    assert reset.counts == (("states_reset_total", 1),)
    assert reset.state is not None
    # As if there had been no event before.
    expected = machine.on_event(machine.initial(KEY), events(1)[0], START_MS).state
    assert expected is not None
    assert machine.codec.encode(reset.state) == machine.codec.encode(expected)
    assert machine.on_event(reset.state, events(2)[0], START_MS).counts == ()


def test_patterns_of_other_masks_are_discarded() -> None:
    """Other masks give other pattern ids: with the old registry each known error would be reported as new."""
    config = PatternConfig()
    old = LogPatterns(config, EMISSION)
    state = old.on_event(old.initial(KEY), events(0)[1], START_MS).state
    assert state is not None
    assert old.on_event(state, events(1)[1], START_MS).counts == ()
    without_ids = LogPatterns(replace(config, masks=MaskSettings(("number",))), EMISSION)
    assert without_ids.on_event(state, events(2)[1], START_MS).counts == (("states_reset_total", 1),)


class BrokenSpike(LatencySpike):
    """A detector with two candidates for each window; one has a confidence over 1, which the contract forbids."""

    def evaluate(self, window: ServiceWindow[SpanTable], model: LatencyModel) -> tuple[LatencyModel, list[Insight]]:
        good = Insight(
            insight_id="0" * 32,
            revision=0,
            status="open",
            kind="latency_spike",
            env=window.key.env,
            service=window.key.service,
            subject="",
            window=Window(start_ms=window.start_ms, end_ms=window.end_ms),
            severity="warning",
            confidence=0.9,
            title="cart: P95 latency 360 ms",
            measures={},
            evidence=Evidence(),
        )
        broken = msgspec.structs.replace(good, insight_id="1" * 32, confidence=1.5)
        return msgspec.structs.replace(model, last_end_ms=window.end_ms), [good, broken]


def test_an_insight_that_breaks_its_contract_is_a_dead_letter_and_is_not_emitted() -> None:
    machine = BrokenSpike(SpikeConfig(), EMISSION)
    state = machine.on_event(machine.initial(KEY), events(0)[0], START_MS).state
    assert state is not None
    step = machine.on_timer(state, END_OF_INPUT)
    assert [out.insight_id for out in step.outputs if isinstance(out, Insight)] == ["0" * 32]
    assert [out.reason for out in step.outputs if isinstance(out, DeadLetter)] == ["invalid_insight"]
    counts = Counter[str]()
    for name, number in step.counts:
        counts[name] += number
    assert (counts["insights_emitted_total"], counts["rejected_invalid_insight_total"]) == (1, 1)
