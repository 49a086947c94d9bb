"""Gate: holds the insights of a service back until the environment is known, and suppresses those that it explains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from msgspec.structs import replace

from operators.emission import EmissionConfig
from operators.machine import END_OF_INPUT, Step
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight, Status
from state_schemas.state.gates import GateState

_ENDED: Final[frozenset[Status]] = frozenset(("closed", "retracted"))

S = TypeVar("S", bound=GateState)
E_contra = TypeVar("E_contra", contravariant=True)


class Gate(ABC, Generic[S, E_contra]):
    """A keyed machine that emits insights or suppresses them. A gate is a subclass.

    Revisions of an emitted insight are always emitted, the last one where several are due at once; the first that is
    emitted is `open`. A suppressed insight can be emitted later, but not with its last revision.
    """

    gives = (Insight,)
    codec: Codec[S]
    # Makes the state of a key without history.
    empty: Callable[[], S]

    def __init__(self, emission: EmissionConfig, idle_ms: int) -> None:
        """Prepare the gate.

        emission: of the detectors that send the insights. idle_ms: event time without events after which a key is
        forgotten.
        """
        self.emission = emission
        self._idle_ms = idle_ms

    @abstractmethod
    def learn(self, state: S, event: E_contra, watermark_ms: int) -> Insight | None:
        """Add an event to the state, and return the insight in it that is held back."""

    @abstractmethod
    def ready_ms(self, insight: Insight) -> int:
        """Return the event time at which all events have arrived that can explain the insight."""

    @abstractmethod
    def may_begin(self, state: S, insight: Insight) -> bool:
        """Return whether the environment does not explain an insight that has not been emitted."""

    def prune(self, state: S, now_ms: int) -> None:
        """Drop the parts of a state that no insight needs any more; called at each timer."""

    def initial(self, key: str) -> S:
        return self.empty()

    def on_event(self, state: S, event: E_contra, watermark_ms: int) -> Step[S, Insight]:
        insight = self.learn(state, event, watermark_ms)
        if insight is not None:
            state.waiting.append(insight)
        return Step(state, timer_at_ms=self._next_timer_ms(state, watermark_ms))

    def on_timer(self, state: S, now_ms: int) -> Step[S, Insight]:
        due = [insight for insight in state.waiting if self.ready_ms(insight) <= now_ms]
        state.waiting = [insight for insight in state.waiting if self.ready_ms(insight) > now_ms]
        emitted, suppressed = self._judged(state, due)
        counts: tuple[tuple[MetricName, int], ...] = (("insights_known_elsewhere_total", suppressed),)
        if now_ms == END_OF_INPUT or (not state.waiting and now_ms >= state.last_seen_ms + self._idle_ms):
            return Step(None, emitted, None, (*counts, ("states_forgotten_total", 1)))
        self.prune(state, now_ms)
        return Step(state, emitted, self._next_timer_ms(state, now_ms), counts)

    def _judged(self, state: S, due: Sequence[Insight]) -> tuple[tuple[Insight, ...], int]:
        """Return the insights that are emitted, in order, and the number of revisions that are suppressed."""
        groups: list[list[Insight]] = [[insight] for insight in due]
        if self.emission.emit_when == "early":
            by_id: dict[str, list[Insight]] = {}
            for insight in due:
                by_id.setdefault(insight.insight_id, []).append(insight)
            groups = list(by_id.values())
        emitted: list[Insight] = []
        suppressed = 0
        for revisions in groups:
            was_passed = state.passed.pop(revisions[0].insight_id, False)
            if not (was_passed or any(self._may_begin(state, insight) for insight in revisions)):
                suppressed += len(revisions)
                continue
            insight = revisions[-1]
            if insight.status not in _ENDED:
                state.passed[insight.insight_id] = True
                insight = replace(insight, status="updated" if was_passed else "open")
            if was_passed or insight.status != "retracted":
                emitted.append(insight)
        return tuple(emitted), suppressed

    def _may_begin(self, state: S, insight: Insight) -> bool:
        """Return whether a revision may be the first that is emitted.

        One that has ended is the end of an insight that was suppressed, unless it is the whole course of an insight.
        """
        is_whole = insight.status == "closed" and insight.revision == 0
        return (is_whole or insight.status not in _ENDED) and self.may_begin(state, insight)

    def _next_timer_ms(self, state: S, now_ms: int) -> int:
        waits = map(self.ready_ms, state.waiting)
        return max(now_ms + 1, min(waits, default=state.last_seen_ms + self._idle_ms))
