"""Windowed detector: windows, late records, roll-ups, early and final evaluation, timers and expiry of all detectors.

Windows are intervals of event time of one length; `operators.emission` decides when they are evaluated.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from operators.emission import EmissionConfig, Emitter, checked, next_firing_ms
from operators.machine import END_OF_INPUT, Step
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


@dataclass(slots=True)
class _Leaving(Generic[O_co]):
    """Outputs and counts of one step so far."""

    outputs: list[O_co | Insight | DeadLetter] = field(default_factory=list)
    counts: list[tuple[MetricName, int]] = field(default_factory=list)


class WindowedDetector(ABC, Generic[M, A, E_contra, O_co]):
    """A keyed machine with one state for each key: its model, and its windows that are not yet final.

    A detector is a subclass. Its methods are its rule: pure functions without state, clock or engine. Those behind
    `evaluate` have a default, for detectors without roll-ups and outputs of their own.
    """

    codec: Codec[DetectorState[M, A]]
    # Makes the model of a key without history.
    empty: Callable[[], M]
    # Lengths of roll-up windows, ascending, the first that of a window; () for no roll-ups.
    resolutions_s: tuple[int, ...] = ()

    def __init__(self, emission: EmissionConfig, idle_ms: int, parameters: str) -> None:
        """Prepare the machine.

        idle_ms: event time without records after which a key is forgotten. parameters: those under which stored state
        is valid, besides the length of a window; state with another fingerprint is discarded.
        """
        self.fingerprint = f"window_ms={emission.window_ms} {parameters}"
        self._idle_ms = idle_ms
        self._emission = emission
        self._window_s = emission.window_ms // 1000
        self._emitter: Emitter[M, A] = Emitter(emission, self.names)

    @abstractmethod
    def parts(self, event: E_contra, model: M) -> Iterable[WindowPart[A]]:
        """Split an event by window. model: may be used to drop texts that it contains already."""

    @abstractmethod
    def records(self, aggregate: A) -> int:
        """Count the records in an aggregate."""

    @abstractmethod
    def names(self, aggregate: A) -> int:
        """Return the size of an aggregate, which bounds the memory between evaluations."""

    @abstractmethod
    def merge(self, start_ms: int, parts: Sequence[A], model: M) -> A:
        """Merge aggregates (at least one) of the window that starts then: associative, commutative, bounded."""

    @abstractmethod
    def evaluate(self, window: ServiceWindow[A], model: M) -> tuple[M, list[Insight]]:
        """Return the model after the window, with its end in `last_end_ms`, and candidates (revision 0)."""

    def expire(self, key: ServiceKey, model: M) -> list[Insight]:
        """Return the closing candidates of a key that is forgotten."""
        return []

    def rows(self, key: ServiceKey, window: RollupWindow, aggregate: A, model: M) -> Iterable[O_co]:
        """Return the rows of a roll-up window that has ended; they are deltas."""
        return ()

    def overflow(self, aggregate: A) -> Counts:
        """Count the names or lines under `other` in a roll-up window of the finest resolution."""
        return ()

    def watched(self, aggregate: A) -> A:
        """Return the part of a roll-up window that is evaluated."""
        return aggregate

    def outputs(self, evaluated: Evaluated[M]) -> Iterable[O_co | Insight]:
        """Return the outputs after windows were evaluated: the revisions, and changes of the model."""
        return evaluated.revisions

    def counts(self, evaluated: Evaluated[M]) -> Counts:
        """Count changes of the model."""
        return ()

    def initial(self, key: str) -> DetectorState[M, A]:
        return DetectorState(self.fingerprint, key, self.empty(), {}, {}, {}, 0)

    def on_event(
        self, state: DetectorState[M, A], event: E_contra, watermark_ms: int
    ) -> Step[DetectorState[M, A], O_co | Insight | DeadLetter]:
        counts: list[tuple[MetricName, int]] = []
        if state.fingerprint != self.fingerprint:
            state = self.initial(state.key)
            counts.append(("states_reset_total", 1))
        # States of earlier builds have no such time; the windows of their model were final.
        known_ms = max(state.advanced_ms, state.model.last_end_ms + self._emission.lateness_ms)
        state.advanced_ms = max(known_ms, watermark_ms)
        behind = 0
        for start_ms, late, aggregate in self.parts(event, state.model):
            is_behind = not late and self._emission.is_final(start_ms, state.advanced_ms)
            behind += self.records(aggregate) if is_behind else 0
            self._add(state, WindowPart(start_ms, late or is_behind, aggregate))
            if not late:
                state.last_seen_ms = max(state.last_seen_ms, start_ms + self._emission.window_ms)
        if behind:
            counts.append(("records_behind_total", behind))
        return Step(state, timer_at_ms=self._next_timer_ms(state), counts=tuple(counts))

    def on_timer(
        self, state: DetectorState[M, A], now_ms: int
    ) -> Step[DetectorState[M, A], O_co | Insight | DeadLetter]:
        leaving = _Leaving[O_co]()
        self._advance(state, now_ms, leaving)
        if now_ms != END_OF_INPUT:
            if state.advanced_ms < self._forget_ms(state) or state.pending or state.windows:
                return Step(state, tuple(leaving.outputs), self._next_timer_ms(state), tuple(leaving.counts))
            key = ServiceKey.of(state.key)
            closed = self._emitter.conclude(state.emitted, self.expire(key, state.model))
            self._emit(Evaluated(key, state.model, state.model, closed), leaving)
        return Step(None, tuple(leaving.outputs), None, (*leaving.counts, ("states_forgotten_total", 1)))

    def _add(self, state: DetectorState[M, A], part: WindowPart[A]) -> None:
        if self.resolutions_s:
            window = RollupWindow(self._window_s, part.start_ms, part.late)
            wait(state.pending, window, part.aggregate, partial(self.merge, model=state.model))
        elif not part.late:
            self._watch(state, part.start_ms, part.aggregate)

    def _watch(self, state: DetectorState[M, A], start_ms: int, aggregate: A) -> None:
        parts = [state.windows[start_ms], aggregate] if start_ms in state.windows else [aggregate]
        state.windows[start_ms] = self.merge(start_ms, parts, state.model)

    def _advance(self, state: DetectorState[M, A], now_ms: int, leaving: _Leaving[O_co]) -> None:
        """Write and settle the windows that are due, then correct the insights; `state` is changed in place.

        Event time stops at the end of each window, so that rows and names are those known then, however far it moves.
        """
        due_ms = self.due_ms(state, state.advanced_ms)
        while due_ms is not None and due_ms <= now_ms:
            self._settle(state, due_ms, leaving)
            state.advanced_ms = max(state.advanced_ms, due_ms)
            due_ms = self.due_ms(state, due_ms)
        if now_ms != END_OF_INPUT:
            state.advanced_ms = now_ms
        key = ServiceKey.of(state.key)
        revisions = self._emitter.correct(state, partial(self._evaluate, key), state.advanced_ms)
        self._emit(Evaluated(key, state.model, state.model, revisions), leaving)

    def _settle(self, state: DetectorState[M, A], now_ms: int, leaving: _Leaving[O_co]) -> None:
        """Write windows that have ended, and advance the model over those that are final."""
        key, before = ServiceKey.of(state.key), state.model
        merge = partial(self.merge, model=before)
        for window, aggregate in take_ended(state.pending, now_ms, self.resolutions_s, merge):
            leaving.outputs += self.rows(key, window, aggregate, before)
            if window.resolution_s == self._window_s:
                leaving.counts += self.overflow(aggregate)
                if not window.late:
                    self._watch(state, window.start_ms, self.watched(aggregate))
        revisions = self._emitter.settle(state, partial(self._evaluate, key), now_ms)
        self._emit(Evaluated(key, before, state.model, revisions), leaving)

    def _emit(self, evaluated: Evaluated[M], leaving: _Leaving[O_co]) -> None:
        """Add the outputs of these windows; revisions that break their contract leave as dead letters."""
        if evaluated.before is evaluated.after and not evaluated.revisions:
            return
        valid, rejected = checked(evaluated.revisions)
        evaluated = evaluated._replace(revisions=valid)
        leaving.outputs += (*self.outputs(evaluated), *rejected)
        leaving.counts += (
            ("insights_emitted_total", len(valid)),
            ("rejected_invalid_insight_total", len(rejected)),
            *self.counts(evaluated),
        )

    def _evaluate(self, key: ServiceKey, model: M, start_ms: int, aggregate: A) -> tuple[M, list[Insight]]:
        expired: list[Insight] = []
        if self._emission.is_forgotten(model.last_end_ms, start_ms, self._idle_ms):
            expired, model = self.expire(key, model), self.empty()
        end_ms = start_ms + self._emission.window_ms
        model, found = self.evaluate(ServiceWindow(key, start_ms, end_ms, aggregate), model)
        return model, expired + found

    def due_ms(self, state: DetectorState[M, A], now_ms: int) -> int | None:
        """Return when the next window ends or is evaluated; None where nothing waits."""
        due = (next_due_ms(state.pending), next_firing_ms(self._emission, state.windows, now_ms))
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    def _next_timer_ms(self, state: DetectorState[M, A]) -> int:
        # A key is forgotten only when nothing waits. If only late records were seen, last_seen_ms is 0: a timer for
        # forgetting the key would then fire each millisecond until the last window ends.
        due_ms = self.due_ms(state, state.advanced_ms)
        return max(state.advanced_ms + 1, self._forget_ms(state) if due_ms is None else due_ms)

    def _forget_ms(self, state: DetectorState[M, A]) -> int:
        return self._emission.forget_ms(state.last_seen_ms, self._idle_ms)
