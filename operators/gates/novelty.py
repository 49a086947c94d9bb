"""NoveltyGate: pass on an insight about a new error only if the error is new in the whole environment.

Driven by `LogPatternSighting` for logs; puts out `Insight`. For spans it is driven by `PatternSighting` of both
sources, and passes on insights about exceptions of spans that the log of the service does not have, new or not. An
error that other services have had for known_ms is not new when one more service has it: an error of a library would
be reported once for each service. Where several services have it first within known_ms, as after a deployment, the
insight of each service is passed on, and so is that of a service with very many lines. State of a pattern: the
services that have it, and since when.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from operators.emission import EmissionConfig
from operators.held_back import goes_on
from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.logs import LineSource
from state_schemas.aggregates.novelty import LogPatternSighting, PatternSighting
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight, Kind
from state_schemas.state.novelty import NOVELTY_CODEC, NoveltyState

STORM_LINES: Final = 100  # an insight of so many lines is passed on even where the pattern is known
SERVICES_MAX: Final = 100  # of a pattern; the ones with the earliest first sighting are kept
LOGGED_DAYS: Final = 9  # kept for each service; longer than idle_ms
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class NoveltyConfig:
    """Settings of the novelty gate."""

    # A pattern that another service has had for so long is not new. Longer than final windows lag behind event time.
    known_ms: int = 600_000
    # A pattern that is not seen for so long is forgotten. Each service that has it sends a sighting once a day.
    idle_ms: int = 8 * DAY_MS
    # Source of the insights that this gate passes on.
    source: LineSource = "logs"


class NoveltyGate:
    """See the module. One state for each (env, pattern id)."""

    gives = (Insight,)

    def __init__(self, config: NoveltyConfig, emission: EmissionConfig) -> None:
        """Prepare the gate. emission: of the detectors that send the insights."""
        self.config = config
        self._emission = emission
        self.takes = (LogPatternSighting if config.source == "logs" else PatternSighting,)

    @property
    def codec(self) -> Codec[NoveltyState]:
        return NOVELTY_CODEC

    def initial(self, key: str) -> NoveltyState:
        return NoveltyState()

    def on_event(self, state: NoveltyState, event: PatternSighting, watermark_ms: int) -> Step[NoveltyState, Insight]:
        state.last_seen_ms = max(state.last_seen_ms, event.seen_ms)
        if event.revision is None:
            first = state.first_seen_ms
            first[event.service] = min(event.seen_ms, first.get(event.service, event.seen_ms))
            if event.source == "logs":
                state.logged[event.service] = _by_day((*state.logged.get(event.service, ()), event.seen_ms))
            if len(state.first_seen_ms) > SERVICES_MAX:
                expired = max(state.first_seen_ms, key=lambda name: (state.first_seen_ms[name], name))
                del state.first_seen_ms[expired]
                state.logged.pop(expired, None)
        elif event.source == self.config.source:
            state.waiting.append(event)
        return Step(state, timer_at_ms=self._next_timer_ms(state, watermark_ms))

    def on_timer(self, state: NoveltyState, now_ms: int) -> Step[NoveltyState, Insight]:
        """Decide on insights that are due: all services have sent their sightings of known_ms before."""
        due = [event for event in state.waiting if self._ready_ms(event) <= now_ms]
        state.waiting = [event for event in state.waiting if self._ready_ms(event) > now_ms]
        novelty = tuple(
            event.revision
            for event in due
            if event.revision and goes_on(state.passed, event.revision, partial(self._is_novel, state, event))
        )
        counts: tuple[tuple[MetricName, int], ...] = (("insights_known_elsewhere_total", len(due) - len(novelty)),)
        if now_ms == END_OF_INPUT or (not state.waiting and now_ms >= state.last_seen_ms + self.config.idle_ms):
            return Step(None, novelty, None, (*counts, ("states_forgotten_total", 1)))
        return Step(state, novelty, self._next_timer_ms(state, now_ms), counts)

    def _is_novel(self, state: NoveltyState, event: PatternSighting) -> bool:
        assert event.revision is not None, "only sightings with an insight are held back"
        kind = event.revision.kind
        if event.source == "spans" and self._is_logged(state, event, kind):
            return False
        if kind != "error_pattern_new" or event.lines >= STORM_LINES:
            return True
        known_ms = event.seen_ms - self.config.known_ms
        return all(first_ms >= known_ms for first_ms in state.first_seen_ms.values())

    def _is_logged(self, state: NoveltyState, event: PatternSighting, kind: Kind) -> bool:
        """Return whether the log of the service has the pattern, so that its own insight covers it.

        Any earlier day counts for a new pattern, the same day for all other kinds of insight.
        """
        since_ms = 0 if kind == "error_pattern_new" else event.seen_ms - event.seen_ms % DAY_MS
        days = state.logged.get(event.service, ())
        return any(since_ms <= seen_ms <= self._logged_by_ms(event) for seen_ms in days)

    def _ready_ms(self, event: PatternSighting) -> int:
        if event.source == "logs":
            return event.seen_ms
        return self._emission.final_ms(self._logged_by_ms(event))

    def _logged_by_ms(self, event: PatternSighting) -> int:
        """Return the start of the last window in which the same error may be logged.

        A line comes before the end of its span or soon after it.
        """
        return event.seen_ms + self._emission.window_ms

    def _next_timer_ms(self, state: NoveltyState, now_ms: int) -> int:
        waits = (self._ready_ms(event) for event in state.waiting)
        return max(now_ms + 1, min(waits, default=state.last_seen_ms + self.config.idle_ms))


def _by_day(seen_ms: tuple[int, ...]) -> tuple[int, ...]:
    """Return the first time of each of the last LOGGED_DAYS days."""
    first: dict[int, int] = {}
    for at_ms in seen_ms:
        first[at_ms // DAY_MS] = min(at_ms, first.get(at_ms // DAY_MS, at_ms))
    return tuple(first[day] for day in sorted(first)[-LOGGED_DAYS:])
