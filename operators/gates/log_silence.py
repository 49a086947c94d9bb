"""LogSilence: suppress `pattern_missing` of a silent service while the whole environment sends no logs.

Driven by `LoggingWindows`; puts out `Insight`. A line can be missing because its service logs nothing at all. Where the
logs of all services have stopped, the transport of logs is broken: TelemetryGap reports that once, instead of one
insight for each of a thousand services. State of an environment: the recent windows in which a service logged.
"""

from functools import partial
from typing import Final

from operators.emission import EmissionConfig
from operators.held_back import goes_on
from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight
from state_schemas.state.log_silence import LOG_SILENCE_CODEC, LogSilenceState

# Share of the windows of an insight in which the environment must have logged; other services may log rarely.
LOGGED_SHARE_MIN: Final = 1 / 3
KEPT_MS: Final = 3_600_000  # windows older than this are dropped
WINDOWS_MAX: Final = 720  # above it, old windows are dropped at the next event, not only at the next timer
# An environment without logs for so long is forgotten; longer than any insight stays open.
IDLE_MS: Final = 9 * 24 * 3_600_000


class LogSilence:
    """See the module. One state for each environment: the windows of KEPT_MS, and the insights that were passed on."""

    takes = (LoggingWindows,)
    gives = (Insight,)

    def __init__(self, emission: EmissionConfig) -> None:
        self._emission = emission

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
        """Decide on insights whose windows are final: all logs in them have arrived."""
        due = [event for event in state.waiting if self._ready_ms(event) <= now_ms]
        state.waiting = [event for event in state.waiting if self._ready_ms(event) > now_ms]
        passed = tuple(
            event.revision
            for event in due
            if event.revision and goes_on(state.passed, event.revision, partial(self._is_alone, state, event.revision))
        )
        counts: tuple[tuple[MetricName, int], ...] = (("insights_known_elsewhere_total", len(due) - len(passed)),)
        if now_ms == END_OF_INPUT or (not state.waiting and now_ms >= state.last_seen_ms + IDLE_MS):
            return Step(None, passed, None, (*counts, ("states_forgotten_total", 1)))
        self._prune(state, now_ms)
        return Step(state, passed, self._next_timer_ms(state, now_ms), counts)

    def _is_alone(self, state: LogSilenceState, insight: Insight) -> bool:
        window, window_ms = insight.window, self._emission.window_ms
        if insight.measures["silent_s"] * 1000 < insight.measures["counted_s"] * 1000 - window_ms:
            return True  # the service logs other lines
        windows = range(window.start_ms, window.end_ms, window_ms)
        return sum(start_ms in state.windows for start_ms in windows) >= LOGGED_SHARE_MIN * len(windows)

    def _prune(self, state: LogSilenceState, now_ms: int) -> None:
        """Drop windows by event time, not by the newest log: logs may be far ahead of the insights that wait."""
        state.windows = {start_ms: True for start_ms in state.windows if start_ms >= now_ms - KEPT_MS}

    def _ready_ms(self, event: LoggingWindows) -> int:
        """Return the time at which the windows of the insight are final, so that all logs in them have arrived."""
        return self._emission.final_ms(event.until_ms - self._emission.window_ms)

    def _next_timer_ms(self, state: LogSilenceState, now_ms: int) -> int:
        waits = (self._ready_ms(event) for event in state.waiting)
        return max(now_ms + 1, min(waits, default=state.last_seen_ms + IDLE_MS))
