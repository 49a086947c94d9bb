"""LogSilence: whether a service that logs nothing is alone in that.

Driven by `LoggingWindows`; puts out `Insight`. A line is missed in a service that has gone wholly silent.
Where the logs of everybody have stopped, it is the way of the logs that is broken, which TelemetryGap tells once, and
not a thousand services each. State of an environment: in which of the last windows anybody logged.
"""

from dataclasses import dataclass, field
from typing import Final

from operators.emission import EmissionConfig
from operators.held_back import goes_on
from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight
from state_schemas.state.log_silence import LOG_SILENCE_CODEC, LogSilenceState

LOGGED_SHARE_MIN: Final = 1 / 3  # of the windows of an insight in which others logged, who may log rarely
KEPT_MS: Final = 3_600_000
WINDOWS_MAX: Final = 720  # then those out of date go


@dataclass(frozen=True, slots=True)
class LogSilenceConfig:
    """idle_ms: an environment without logs for so long is forgotten; longer than any insight stays open."""

    emission: EmissionConfig = field(default_factory=EmissionConfig)
    idle_ms: int = 9 * 24 * 3_600_000


class LogSilence:
    """See the module. One state for each environment: KEPT_MS of windows, and who is told of."""

    takes = (LoggingWindows,)
    gives = (Insight,)

    def __init__(self, config: LogSilenceConfig) -> None:
        self.config = config

    @property
    def codec(self) -> Codec[LogSilenceState]:
        return LOG_SILENCE_CODEC

    def initial(self, key: str) -> LogSilenceState:
        return LogSilenceState()

    def on_event(
        self, state: LogSilenceState, event: LoggingWindows, watermark_ms: int
    ) -> Step[LogSilenceState, Insight]:
        state.windows.update(dict.fromkeys(event.windows, True))
        state.last_seen_ms = max(state.last_seen_ms, event.until_ms, *event.windows)
        if len(state.windows) > WINDOWS_MAX:
            self._prune(state, watermark_ms)
        if event.revision is not None:
            state.waiting.append(event)
        return Step(state, timer_at_ms=self._next_timer_ms(state, watermark_ms))

    def on_timer(self, state: LogSilenceState, now_ms: int) -> Step[LogSilenceState, Insight]:
        """What was said of windows before now is judged: all that was heard in them has come."""
        due = [event for event in state.waiting if self._ready_ms(event) <= now_ms]
        state.waiting = [event for event in state.waiting if self._ready_ms(event) > now_ms]
        passed = tuple(event.revision for event in due if event.revision and self._goes_on(state, event.revision))
        counts: tuple[tuple[MetricName, int], ...] = (("insights_known_elsewhere_total", len(due) - len(passed)),)
        if now_ms == END_OF_INPUT or (not state.waiting and now_ms >= state.last_seen_ms + self.config.idle_ms):
            return Step(None, passed, None, (*counts, ("states_forgotten_total", 1)))
        self._prune(state, now_ms)
        return Step(state, passed, self._next_timer_ms(state, now_ms), counts)

    def _goes_on(self, state: LogSilenceState, revision: Insight) -> bool:
        insight = revision
        return goes_on(state.passed, insight, lambda: self._is_alone(state, insight))

    def _is_alone(self, state: LogSilenceState, insight: Insight) -> bool:
        window, window_ms = insight.window, self.config.emission.window_ms
        if insight.measures["silent_s"] * 1000 < insight.measures["counted_s"] * 1000 - window_ms:
            return True  # it logs, only not this
        windows = range(window.start_ms, window.end_ms, window_ms)
        return sum(start_ms in state.windows for start_ms in windows) >= LOGGED_SHARE_MIN * len(windows)

    def _prune(self, state: LogSilenceState, now_ms: int) -> None:
        """By event time, not by what was heard last: logs may be far ahead of what is judged."""
        state.windows = {start_ms: True for start_ms in state.windows if start_ms >= now_ms - KEPT_MS}

    def _ready_ms(self, event: LoggingWindows) -> int:
        """When all that was heard in the insight's windows is known, however it came."""
        return self.config.emission.final_ms(event.until_ms - self.config.emission.window_ms)

    def _next_timer_ms(self, state: LogSilenceState, now_ms: int) -> int:
        waits = (self._ready_ms(event) for event in state.waiting)
        return max(now_ms + 1, min(waits, default=state.last_seen_ms + self.config.idle_ms))
