"""NoveltyGate: pass on an insight about a new error only if the error is new in the whole environment.

Driven by `LogPatternSighting` for logs; puts out `Insight`. For spans it is driven by `PatternSighting` of both
sources, and passes on insights about exceptions of spans that the log of the service does not have, new or not. An
error that other services have had for known_ms is not new when one more service has it: an error of a library would
be reported once for each service. Where several services have it first within known_ms, as after a deployment, the
insight of each service is passed on, and so is that of a service with very many lines. State of a pattern: the
services that have it, and since when.
"""

from dataclasses import dataclass
from typing import Final

from operators.emission import EmissionConfig
from operators.gates.gate import Gate
from state_schemas.aggregates.logs import LineSource
from state_schemas.aggregates.novelty import LogPatternSighting, PatternSighting
from state_schemas.contracts.insight import Insight
from state_schemas.state.gates import NOVELTY_CODEC, NoveltyState
from udfs.insights.ids import service_of

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


class NoveltyGate(Gate[NoveltyState, PatternSighting]):
    """See the module. One state for each (env, pattern id)."""

    codec = NOVELTY_CODEC
    empty = NoveltyState

    def __init__(self, config: NoveltyConfig, emission: EmissionConfig) -> None:
        super().__init__(emission, config.idle_ms)
        self.config = config
        self.takes = (LogPatternSighting if config.source == "logs" else PatternSighting,)

    def learn(self, state: NoveltyState, event: PatternSighting, watermark_ms: int) -> Insight | None:
        state.last_seen_ms = max(state.last_seen_ms, event.seen_ms)
        if event.revision is not None:
            return event.revision if event.source == self.config.source else None
        first = state.first_seen_ms
        first[event.service] = min(event.seen_ms, first.get(event.service, event.seen_ms))
        if event.source == "logs":
            state.logged[event.service] = _by_day((*state.logged.get(event.service, ()), event.seen_ms))
        if len(first) > SERVICES_MAX:
            expired = max(first, key=lambda name: (first[name], name))
            del first[expired]
            state.logged.pop(expired, None)
        return None

    def ready_ms(self, insight: Insight) -> int:
        """Return when all services have sent their sightings of known_ms before, and of logs that of the same error."""
        if self.config.source == "logs":
            return insight.window.start_ms
        return self.emission.final_ms(self._logged_by_ms(insight))

    def may_begin(self, state: NoveltyState, insight: Insight) -> bool:
        if self.config.source == "spans" and self._is_logged(state, insight):
            return False
        if insight.kind != "error_pattern_new" or insight.measures["lines"] >= STORM_LINES:
            return True
        known_ms = insight.window.start_ms - self.config.known_ms
        return all(first_ms >= known_ms for first_ms in state.first_seen_ms.values())

    def _is_logged(self, state: NoveltyState, insight: Insight) -> bool:
        """Return whether the log of the service has the pattern, so that its own insight covers it.

        Any earlier day counts for a new pattern, the same day for all other kinds of insight.
        """
        seen_ms = insight.window.start_ms
        since_ms = 0 if insight.kind == "error_pattern_new" else seen_ms - seen_ms % DAY_MS
        days = state.logged.get(service_of(insight), ())
        return any(since_ms <= logged_ms <= self._logged_by_ms(insight) for logged_ms in days)

    def _logged_by_ms(self, insight: Insight) -> int:
        """Return the start of the last window in which the same error may be logged.

        A line comes before the end of its span or soon after it.
        """
        return insight.window.start_ms + self.emission.window_ms


def _by_day(seen_ms: tuple[int, ...]) -> tuple[int, ...]:
    """Return the first time of each of the last LOGGED_DAYS days."""
    first: dict[int, int] = {}
    for at_ms in seen_ms:
        first[at_ms // DAY_MS] = min(at_ms, first.get(at_ms // DAY_MS, at_ms))
    return tuple(first[day] for day in sorted(first)[-LOGGED_DAYS:])
