"""Sequences: match the signals of one service, host, operation, trace or environment with sequence rules.

Events are `RuleSignalBatch` or `RecordSignalBatch`, `RuleClock` and `RuleEdge`; outputs are `Insight` and `MatchRow`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self, get_args

from msgspec.structs import replace as replace_fields

from operators.emission import EmissionConfig
from operators.machine import Step
from operators.windowed import Counts, Evaluated, WindowedDetector, WindowPart
from state_schemas.aggregates.published_rules import PublishedRule
from state_schemas.aggregates.rule_signals import (
    RecordSignalBatch,
    RuleClock,
    RuleEdge,
    RuleSignalBatch,
    SignalBatch,
    SignalWindow,
    SubjectSignal,
)
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import MatchRow
from state_schemas.state.sequences import SEQUENCE_CODEC, SequenceModel, SequenceState
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.rules.compiled import RuleIndex
from udfs.rules.evaluation import conclude, evaluate_signals
from udfs.rules.report import match_row
from udfs.rules.subjects import BUCKETS
from udfs.rules.windows import by_window, merge_windows, ordered_by_window

Event = SignalBatch | RuleClock | RuleEdge
TAKEN_BACK: Final = "a late signal, or a change of the rule: the match no longer holds"
# A signal that meets a final window is late, where a record would be.
_COUNTERS: Final[Mapping[MetricName, MetricName]] = {"records_behind_total": "rule_signals_late_total"}
Output = Insight | MatchRow | DeadLetter
QUIET_MS: Final = 600_000  # windows that change nothing wait so long, beyond the time at which they are final
IDLE_MS: Final = 4 * 24 * 3_600_000  # longer than the longest rule, absence and suppression together


@dataclass(frozen=True, slots=True)
class SequenceConfig:
    """Settings of sequence rules."""

    index: RuleIndex
    # Longest time between the beginning of an episode and its insight: the latency rule accepts a level after it.
    delay_ms: int = 1_800_000
    # Whether the index is only what rules are at the start: others come from a topic.
    from_topic: bool = False

    def with_rules(self, changes: Sequence[PublishedRule]) -> "SequenceConfig":
        return replace(self, index=self.index.updated(changes))

    def lateness_ms(self, emission: EmissionConfig) -> int:
        """Return the allowed lateness of signals: an insight can wait for a final window, and for that of a gate."""
        return self.delay_ms + 2 * emission.lateness_ms + 2 * emission.window_ms


class Sequences(WindowedDetector[SequenceModel, SignalWindow, Event, Output]):
    """See the module. One state for each environment and bucket of subjects.

    A window without a signal in which the environment had telemetry is evaluated too: what did not come is concluded
    from what others have sent, so that a replay concludes the same.
    """

    takes: tuple[type, ...] = (RuleSignalBatch, RuleClock, RuleEdge)
    rules = PublishedRule
    gives = get_args(Output)
    codec = SEQUENCE_CODEC
    # Whether records have the time of their window, as insights do.
    is_by_window = True
    empty = SequenceModel

    def __init__(self, config: SequenceConfig, emission: EmissionConfig) -> None:
        super().__init__(self.emission_of(config, emission), IDLE_MS, f"signals=1 buckets={BUCKETS}")
        self._config, self._early = config, emission

    def with_rules(self, changes: Sequence[PublishedRule]) -> Self:
        return type(self)(self._config.with_rules(changes), self._early)

    def emission_of(self, config: SequenceConfig, emission: EmissionConfig) -> EmissionConfig:
        """Return when windows of signals are final, from when windows of records are."""
        return replace(emission, lateness_ms=config.lateness_ms(emission))

    def parts(self, event: Event, model: SequenceModel) -> Iterator[WindowPart[SignalWindow]]:
        if isinstance(event, SignalBatch):
            for start_ms, window in by_window(self._ordered(event), self._early.window_ms):
                yield WindowPart(start_ms, False, window)
            return
        if isinstance(event, RuleEdge):
            yield WindowPart(event.start_ms, False, SignalWindow(edges=(event.edge,)))
            return
        for start_ms in event.windows:
            yield WindowPart(start_ms, False, SignalWindow())

    def _ordered(self, batch: SignalBatch) -> Iterable[SubjectSignal]:
        if not self.is_by_window:
            return batch.signals
        return (ordered_by_window(signal, self._early.window_ms) for signal in batch.signals)

    def on_event(self, state: SequenceState, event: Event, watermark_ms: int) -> Step[SequenceState, Output]:
        """Add signals. Their windows have mostly ended: they are evaluated with the next advance of event time."""
        step = super().on_event(state, event, watermark_ms)
        assert step.state is not None, "an event leaves a state"
        assert step.timer_at_ms is not None, "a state has a timer"
        counts = tuple((_COUNTERS.get(name, name), number) for name, number in step.counts)
        at_ms = step.timer_at_ms if _is_quiet(step.state) else min(step.timer_at_ms, step.state.advanced_ms + 1)
        return replace(step, timer_at_ms=at_ms, counts=counts)

    def due_ms(self, state: SequenceState, now_ms: int) -> int | None:
        """Return when windows are evaluated; where none changes anything, many at once."""
        if _is_quiet(state) and state.windows:
            return self._emission.final_ms(min(state.windows)) + QUIET_MS
        return super().due_ms(state, now_ms)

    def records(self, aggregate: SignalWindow) -> int:
        return len(aggregate)

    def names(self, aggregate: SignalWindow) -> int:
        return len(aggregate) + len(aggregate.edges)

    def merge(self, start_ms: int, parts: Sequence[SignalWindow], model: SequenceModel) -> SignalWindow:
        return merge_windows(parts)

    def evaluate(
        self, window: ServiceWindow[SignalWindow], model: SequenceModel
    ) -> tuple[SequenceModel, list[Insight]]:
        return evaluate_signals(model, window, self._config.index)

    def outputs(self, evaluated: Evaluated[SequenceModel]) -> Iterator[Output]:
        """Yield the revisions and their rows. One that is taken back says what can have changed it."""
        for revision in evaluated.revisions:
            is_back = revision.status == "retracted"
            insight = replace_fields(revision, reason=TAKEN_BACK) if is_back else revision
            yield insight
            yield match_row(insight)

    def expire(self, key: ServiceKey, model: SequenceModel) -> list[Insight]:
        return conclude(model)

    def counts(self, evaluated: Evaluated[SequenceModel]) -> Counts:
        given_up = max(0, evaluated.after.given_up - evaluated.before.given_up)  # a model that was forgotten has 0
        opened = sum(insight.revision == 0 for insight in evaluated.revisions)
        return (("partial_matches_given_up_total", given_up), ("sequence_matches_total", opened))

    def on_timer(self, state: SequenceState, now_ms: int) -> Step[SequenceState, Output]:
        step = super().on_timer(state, now_ms)
        if step.state is None:
            return step
        return replace(step, levels=(("partial_matches", step.state.model.partial_matches),))


def _is_quiet(state: SequenceState) -> bool:
    """Return whether no window changes anything: most buckets are so, and get the times of the environment."""
    has_signals = any(window.chunks or window.edges for window in state.windows.values())
    return not (has_signals or state.model.subjects or state.emitted)


class RecordSequences(Sequences):
    """Sequences of records alone: their windows are final when those of other detectors are."""

    takes = (RecordSignalBatch, RuleClock, RuleEdge)
    is_by_window = False

    def emission_of(self, config: SequenceConfig, emission: EmissionConfig) -> EmissionConfig:
        return emission
