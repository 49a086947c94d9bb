"""LogSilence: whether a service that logs nothing is alone in that.

Driven by `LogsHeard`; puts out `InsightRevision`. A line is missed in a service that has gone wholly silent. Where the
logs of everybody have stopped, it is the way of the logs that is broken, which TelemetryGap tells once, and not a
thousand services each. State of an environment: in which of the last panes anybody logged.
"""

from dataclasses import dataclass, field
from typing import Final

from operators.emission import FrontierConfig
from operators.held_back import goes_on
from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.log_silence import LogsHeard
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight, InsightRevision, from_json
from state_schemas.state.log_silence import LOG_SILENCE_CODEC, LogSilenceState

HEARD_SHARE_MIN: Final = 1 / 3  # of the panes of an insight in which others logged, who may log rarely
KEPT_MS: Final = 3_600_000
PANES_MAX: Final = 720  # then those out of date go


@dataclass(frozen=True, slots=True)
class LogSilenceConfig:
    """idle_ms: an environment without logs for so long is forgotten; longer than any insight stays open."""

    frontier: FrontierConfig = field(default_factory=FrontierConfig)
    idle_ms: int = 9 * 24 * 3_600_000


class LogSilence:
    """See the module. One state for each environment: KEPT_MS of panes, and who is told of."""

    def __init__(self, config: LogSilenceConfig) -> None:
        self.config = config

    @property
    def codec(self) -> Codec[LogSilenceState]:
        return LOG_SILENCE_CODEC

    def initial(self, key: str) -> LogSilenceState:
        return LogSilenceState()

    def on_event(
        self, state: LogSilenceState, event: LogsHeard, watermark_ms: int
    ) -> Step[LogSilenceState, InsightRevision]:
        state.panes.update(dict.fromkeys(event.panes, True))
        state.last_seen_ms = max(state.last_seen_ms, event.until_ms, *event.panes)
        if len(state.panes) > PANES_MAX:
            self._prune(state, watermark_ms)
        if event.revision is not None:
            state.waiting.append(event)
        return Step(state, wake_at_ms=self._next_wake_ms(state, watermark_ms))

    def on_wake(self, state: LogSilenceState, now_ms: int) -> Step[LogSilenceState, InsightRevision]:
        """What was said of panes before now is judged: all that was heard in them has come."""
        due = [event for event in state.waiting if self._ready_ms(event) <= now_ms]
        state.waiting = [event for event in state.waiting if self._ready_ms(event) > now_ms]
        told = tuple(event.revision for event in due if event.revision and self._goes_on(state, event.revision))
        counts: tuple[tuple[MetricName, int], ...] = (("insights_known_elsewhere_total", len(due) - len(told)),)
        if now_ms == END_OF_INPUT or (not state.waiting and now_ms >= state.last_seen_ms + self.config.idle_ms):
            return Step(None, told, None, (*counts, ("states_forgotten_total", 1)))
        self._prune(state, now_ms)
        return Step(state, told, self._next_wake_ms(state, now_ms), counts)

    def _goes_on(self, state: LogSilenceState, revision: InsightRevision) -> bool:
        insight = from_json(revision.body)
        return goes_on(state.told, insight, lambda: self._is_alone(state, insight))

    def _is_alone(self, state: LogSilenceState, insight: Insight) -> bool:
        window, pane_ms = insight.window, self.config.frontier.pane_ms
        if insight.measures["silent_s"] * 1000 < insight.measures["counted_s"] * 1000 - pane_ms:
            return True  # it logs, only not this
        panes = range(window.start_ms, window.end_ms, pane_ms)
        return sum(start_ms in state.panes for start_ms in panes) >= HEARD_SHARE_MIN * len(panes)

    def _prune(self, state: LogSilenceState, now_ms: int) -> None:
        """By event time, not by what was heard last: logs may be far ahead of what is judged."""
        state.panes = {start_ms: True for start_ms in state.panes if start_ms >= now_ms - KEPT_MS}

    def _ready_ms(self, event: LogsHeard) -> int:
        """When all that was heard in the insight's panes is known, however it came."""
        return self.config.frontier.final_ms(event.until_ms - self.config.frontier.pane_ms)

    def _next_wake_ms(self, state: LogSilenceState, now_ms: int) -> int:
        waits = (self._ready_ms(event) for event in state.waiting)
        return max(now_ms + 1, min(waits, default=state.last_seen_ms + self.config.idle_ms))
