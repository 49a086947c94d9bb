"""Windowed detector: windows, late records, roll-ups, early and final evaluation, timers and expiry of all detectors.

A `WindowRule` contains the part that differs between detectors. Windows are intervals of event time of one length;
`operators.emission` decides when they are evaluated.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar

from operators.emission import EmissionConfig, Emitter, checked, next_firing_ms
from operators.machine import BEGIN_OF_TIME, END_OF_INPUT, Step
from operators.rollup_windows import next_due_ms, take_ended, wait
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.state.detector import DetectorState, Model, RollupWindow
from udfs.detect.service_window import ServiceKey, ServiceWindow

M = TypeVar("M", bound=Model)
A = TypeVar("A")
E_contra = TypeVar("E_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
Counts = tuple[tuple[MetricName, int], ...]


class WindowPart(NamedTuple, Generic[A]):
    """Contribution of one event to one window. start_ms: of the window, epoch ms. late: after the allowed lateness."""

    start_ms: int
    late: bool
    aggregate: A


class Evaluated(NamedTuple, Generic[M]):
    """The model before and after some windows, and the revisions that follow from them."""

    key: ServiceKey
    before: M
    after: M
    revisions: Sequence[Insight]


class WindowRule(Protocol[M, A, E_contra, O_co]):
    """The part that is particular to a detector: pure functions without state, clock or engine."""

    @property
    def codec(self) -> Codec[DetectorState[M, A]]: ...
    @property
    def emission(self) -> EmissionConfig: ...
    @property
    def fingerprint(self) -> str:
        """Return the parameters under which stored state is valid; state with other parameters is discarded."""

    @property
    def idle_ms(self) -> int:
        """Return the event time without records after which a key is forgotten."""

    @property
    def resolutions_s(self) -> tuple[int, ...]:
        """Return the lengths of roll-up windows, ascending, the first that of a window; () for no roll-ups."""

    def empty(self) -> M:
        """Return the model of a key without history."""

    def parts(self, event: E_contra, model: M) -> Iterable[WindowPart[A]]:
        """Split an event by window. model: may be used to drop texts that it contains already."""

    def records(self, aggregate: A) -> int:
        """Count the records in an aggregate."""

    def merge(self, start_ms: int, parts: Sequence[A], model: M) -> A:
        """Merge aggregates (at least one) of the window that starts then: associative, commutative, bounded."""

    def overflow(self, aggregate: A) -> Counts:
        """Count the names or lines under `other` in a roll-up window of the finest resolution."""

    def rows(self, key: ServiceKey, window: RollupWindow, aggregate: A, model: M) -> Iterable[O_co]:
        """Return the rows of a roll-up window that has ended; they are deltas."""

    def watched(self, aggregate: A) -> A:
        """Return the part of a window that is evaluated."""

    def evaluate(self, window: ServiceWindow[A], model: M) -> tuple[M, list[Insight]]:
        """Return the model after the window, with its end in `last_end_ms`, and candidates (revision 0)."""

    def expire(self, key: ServiceKey, model: M) -> list[Insight]:
        """Return the closing candidates of a key that is forgotten."""

    def outputs(self, evaluated: Evaluated[M]) -> Iterable[O_co]:
        """Return the outputs after windows were evaluated: the revisions, and changes of the model."""

    def counts(self, evaluated: Evaluated[M]) -> Counts: ...


class WindowedDetector(Generic[M, A, E_contra, O_co]):
    """A keyed machine around a rule: one state for each key, with its windows that are not yet final.

    names_in: returns the size of an aggregate, which bounds the memory between evaluations.
    """

    def __init__(self, rule: WindowRule[M, A, E_contra, O_co], names_in: Callable[[A], int]) -> None:
        self.rule = rule
        self._emission = rule.emission
        self._window_s = rule.emission.window_ms // 1000
        self._emitter: Emitter[M, A] = Emitter(rule.emission, names_in)

    @property
    def codec(self) -> Codec[DetectorState[M, A]]:
        return self.rule.codec

    def initial(self, key: str) -> DetectorState[M, A]:
        return DetectorState(self.rule.fingerprint, key, self.rule.empty(), {}, {}, {}, 0)

    def on_event(
        self, state: DetectorState[M, A], event: E_contra, watermark_ms: int
    ) -> Step[DetectorState[M, A], O_co | DeadLetter]:
        counts: list[tuple[MetricName, int]] = []
        if state.fingerprint != self.rule.fingerprint:
            state = self.initial(state.key)
            counts.append(("states_reset_total", 1))
        behind = 0
        for start_ms, late, aggregate in self.rule.parts(event, state.model):
            is_behind = not late and self._emission.is_final(start_ms, watermark_ms, state.model.last_end_ms)
            behind += self.rule.records(aggregate) if is_behind else 0
            self._add(state, WindowPart(start_ms, late or is_behind, aggregate))
            if not late:
                state.last_seen_ms = max(state.last_seen_ms, start_ms + self._emission.window_ms)
        if behind:
            counts.append(("records_behind_total", behind))
        return Step(state, timer_at_ms=self._next_timer_ms(state, watermark_ms), counts=tuple(counts))

    def on_timer(self, state: DetectorState[M, A], now_ms: int) -> Step[DetectorState[M, A], O_co | DeadLetter]:
        if now_ms == END_OF_INPUT:
            return self._finish(state)
        out, counts = self._advance(state, now_ms)
        if now_ms < self._forget_ms(state) or state.pending or state.windows:
            return Step(state, out, self._next_timer_ms(state, now_ms), counts)
        key = ServiceKey.of(state.key)
        closed = self._emitter.conclude(state.emitted, self.rule.expire(key, state.model))
        more, more_counts = self._emitted(key, state.model, state.model, closed)
        return Step(None, (*out, *more), None, (*counts, *more_counts, ("states_forgotten_total", 1)))

    def _finish(self, state: DetectorState[M, A]) -> Step[DetectorState[M, A], O_co | DeadLetter]:
        """Advance event time until nothing waits, so that rows and names are those known at the end of each window."""
        out: list[O_co | DeadLetter] = []
        counts: list[tuple[MetricName, int]] = [("states_forgotten_total", 1)]
        # Windows that were evaluated early before the end of the input are evaluated early here as well.
        due_ms = self._due_ms(state, max(state.windows, default=BEGIN_OF_TIME) + self._emission.window_ms)
        while due_ms is not None:
            outputs, due_counts = self._advance(state, due_ms)
            out += outputs
            counts += due_counts
            due_ms = self._due_ms(state, due_ms)
        return Step(None, tuple(out), None, tuple(counts))

    def _add(self, state: DetectorState[M, A], part: WindowPart[A]) -> None:
        if self.rule.resolutions_s:
            window = RollupWindow(self._window_s, part.start_ms, part.late)
            wait(state.pending, window, part.aggregate, partial(self.rule.merge, model=state.model))
        elif not part.late:
            self._watch(state, part.start_ms, part.aggregate)

    def _watch(self, state: DetectorState[M, A], start_ms: int, aggregate: A) -> None:
        parts = [state.windows[start_ms], aggregate] if start_ms in state.windows else [aggregate]
        state.windows[start_ms] = self.rule.merge(start_ms, parts, state.model)

    def _advance(self, state: DetectorState[M, A], now_ms: int) -> tuple[tuple[O_co | DeadLetter, ...], Counts]:
        """Write windows that have ended, evaluate those that are due; `state` is changed in place."""
        key, before = ServiceKey.of(state.key), state.model
        out, counts = self._roll_up(state, key, now_ms)
        state.model, revisions = self._emitter.advance(
            state.key, partial(self._evaluate, key), state.model, state.windows, state.emitted, now_ms
        )
        more, more_counts = self._emitted(key, before, state.model, revisions)
        return (*out, *more), (*counts, *more_counts)

    def _emitted(
        self, key: ServiceKey, before: M, after: M, revisions: Sequence[Insight]
    ) -> tuple[tuple[O_co | DeadLetter, ...], Counts]:
        """Return what leaves with these revisions; those that break their contract leave as dead letters."""
        valid, rejected = checked(revisions)
        evaluated = Evaluated(key, before, after, valid)
        counts: Counts = (
            ("insights_emitted_total", len(valid)),
            ("rejected_invalid_insight_total", len(rejected)),
            *self.rule.counts(evaluated),
        )
        return (*self.rule.outputs(evaluated), *rejected), counts

    def _roll_up(self, state: DetectorState[M, A], key: ServiceKey, now_ms: int) -> tuple[tuple[O_co, ...], Counts]:
        out: list[O_co] = []
        counts: list[tuple[MetricName, int]] = []
        merge = partial(self.rule.merge, model=state.model)
        for window, aggregate in take_ended(state.pending, now_ms, self.rule.resolutions_s, merge):
            out += self.rule.rows(key, window, aggregate, state.model)
            if window.resolution_s == self._window_s:
                counts += self.rule.overflow(aggregate)
                if not window.late:
                    self._watch(state, window.start_ms, self.rule.watched(aggregate))
        return tuple(out), tuple(counts)

    def _evaluate(self, key: ServiceKey, model: M, start_ms: int, aggregate: A) -> tuple[M, list[Insight]]:
        expired: list[Insight] = []
        if self._emission.is_forgotten(model.last_end_ms, start_ms, self.rule.idle_ms):
            expired, model = self.rule.expire(key, model), self.rule.empty()
        end_ms = start_ms + self._emission.window_ms
        model, found = self.rule.evaluate(ServiceWindow(key, start_ms, end_ms, aggregate), model)
        return model, expired + found

    def _due_ms(self, state: DetectorState[M, A], now_ms: int) -> int | None:
        """Return when the next window ends or is evaluated; None where nothing waits."""
        due = (next_due_ms(state.pending), next_firing_ms(self._emission, state.windows, now_ms))
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    def _next_timer_ms(self, state: DetectorState[M, A], now_ms: int) -> int:
        # A key is forgotten only when nothing waits. If only late records were seen, last_seen_ms is 0: a timer for
        # forgetting the key would then fire each millisecond until the last window ends.
        due_ms = self._due_ms(state, now_ms)
        return max(now_ms + 1, self._forget_ms(state) if due_ms is None else due_ms)

    def _forget_ms(self, state: DetectorState[M, A]) -> int:
        return self._emission.forget_ms(state.last_seen_ms, self.rule.idle_ms)
