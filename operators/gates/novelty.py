"""NoveltyGate: whether an error that is new in a service is new in its environment.

Driven by `LogPatternSighting` of logs, or by `PatternSighting` of both, to tell what spans recorded and logs do not
say, new or not; puts out `Insight`. What others of the environment have had for a while is no news when one
more service has it: a library's errors would be told as often as there are services. Where several meet it within
known_ms, as after a deploy, each tells, and so does who has very many of it. State of a pattern: who has it since when.
"""

from dataclasses import dataclass, field
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

STORM_LINES: Final = 100  # of one insight: news even where it is known
SERVICES_MAX: Final = 100  # of a pattern; of more, those that logged it first are kept
LOGGED_DAYS: Final = 9  # more than idle_ms
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class NoveltyConfig:
    """known_ms: logged elsewhere for so long, a pattern is no news; more than what is final lags behind event time.

    idle_ms: unheard for so long, a pattern is forgotten. Who has it says so once a day. source: of what is told.
    frontier: of the machines that tell; what spans recorded waits until the same would be known of logs.
    """

    known_ms: int = 600_000
    idle_ms: int = 8 * DAY_MS
    source: LineSource = "logs"
    emission: EmissionConfig = field(default_factory=EmissionConfig)


class NoveltyGate:
    """See the module. One state for each (env, pattern id)."""

    gives = (Insight,)

    def __init__(self, config: NoveltyConfig) -> None:
        self.config = config
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
        """What begins by now is judged: all that was final known_ms earlier has come from wherever it comes."""
        due = [event for event in state.waiting if self._ready_ms(event) <= now_ms]
        state.waiting = [event for event in state.waiting if self._ready_ms(event) > now_ms]
        novelty = tuple(
            event.revision for event in due if event.revision and self._goes_on(state, event, event.revision)
        )
        counts: tuple[tuple[MetricName, int], ...] = (("insights_known_elsewhere_total", len(due) - len(novelty)),)
        if now_ms == END_OF_INPUT or (not state.waiting and now_ms >= state.last_seen_ms + self.config.idle_ms):
            return Step(None, novelty, None, (*counts, ("states_forgotten_total", 1)))
        return Step(state, novelty, self._next_timer_ms(state, now_ms), counts)

    def _goes_on(self, state: NoveltyState, event: PatternSighting, revision: Insight) -> bool:
        insight = revision
        return goes_on(state.passed, insight, lambda: self._is_novel(state, event, insight.kind))

    def _is_novel(self, state: NoveltyState, event: PatternSighting, kind: Kind) -> bool:
        if event.source == "spans" and self._is_logged(state, event, kind):
            return False
        if kind != "error_pattern_new" or event.lines >= STORM_LINES:
            return True
        known_ms = event.seen_ms - self.config.known_ms
        return all(first_ms >= known_ms for first_ms in state.first_seen_ms.values())

    def _is_logged(self, state: NoveltyState, event: PatternSighting, kind: Kind) -> bool:
        """Whether its log has it, and so tells of it: what is not new, on that day."""
        since_ms = 0 if kind == "error_pattern_new" else event.seen_ms - event.seen_ms % DAY_MS
        days = state.logged.get(event.service, ())
        return any(since_ms <= seen_ms <= self._logged_by_ms(event) for seen_ms in days)

    def _ready_ms(self, event: PatternSighting) -> int:
        if event.source == "logs":
            return event.seen_ms
        return self.config.emission.final_ms(self._logged_by_ms(event))

    def _logged_by_ms(self, event: PatternSighting) -> int:
        """Start of the last window in which the same may be logged: a line comes before the span's end or soon
        after.
        """
        return event.seen_ms + self.config.emission.window_ms

    def _next_timer_ms(self, state: NoveltyState, now_ms: int) -> int:
        waits = (self._ready_ms(event) for event in state.waiting)
        return max(now_ms + 1, min(waits, default=state.last_seen_ms + self.config.idle_ms))


def _by_day(seen_ms: tuple[int, ...]) -> tuple[int, ...]:
    """The first of each of the last days."""
    first: dict[int, int] = {}
    for at_ms in seen_ms:
        first[at_ms // DAY_MS] = min(at_ms, first.get(at_ms // DAY_MS, at_ms))
    return tuple(first[day] for day in sorted(first)[-LOGGED_DAYS:])
