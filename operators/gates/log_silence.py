"""LogSilence: suppress `pattern_missing` of a silent service while the whole environment sends no logs.

Driven by `LoggingWindows`; puts out `Insight`. A line can be missing because its service logs nothing at all. Where the
logs of all services have stopped, the transport of logs is broken: TelemetryGap reports that once, instead of one
insight for each of a thousand services. State of an environment: the recent windows in which a service logged.
"""

from typing import Final

from operators.emission import EmissionConfig
from operators.gates.gate import Gate
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.contracts.insight import Insight
from state_schemas.state.gates import LOG_SILENCE_CODEC, LogSilenceState

# Share of the windows of an insight in which the environment must have logged; other services may log rarely.
LOGGED_SHARE_MIN: Final = 1 / 3
KEPT_MS: Final = 3_600_000  # windows older than this are dropped
WINDOWS_MAX: Final = 720  # above it, old windows are dropped at the next event, not only at the next timer
# An environment without logs for so long is forgotten; longer than any insight stays open.
IDLE_MS: Final = 9 * 24 * 3_600_000


class LogSilence(Gate[LogSilenceState, LoggingWindows]):
    """See the module. One state for each environment: the windows of KEPT_MS, and the insights that were passed on."""

    takes = (LoggingWindows,)
    codec = LOG_SILENCE_CODEC
    empty = LogSilenceState

    def __init__(self, emission: EmissionConfig) -> None:
        super().__init__(emission, IDLE_MS)

    def learn(self, state: LogSilenceState, event: LoggingWindows, watermark_ms: int) -> Insight | None:
        state.windows.update(dict.fromkeys(event.windows, True))
        until_ms = event.revision.window.end_ms if event.revision else 0
        state.last_seen_ms = max(state.last_seen_ms, until_ms, *event.windows)
        if len(state.windows) > WINDOWS_MAX:
            self.prune(state, watermark_ms)
        return event.revision

    def ready_ms(self, insight: Insight) -> int:
        """Return the time at which the windows of the insight are final."""
        return self.emission.final_ms(insight.window.end_ms - self.emission.window_ms)

    def may_begin(self, state: LogSilenceState, insight: Insight) -> bool:
        window, window_ms = insight.window, self.emission.window_ms
        if insight.measures["silent_s"] * 1000 < insight.measures["counted_s"] * 1000 - window_ms:
            return True  # the service logs other lines
        windows = range(window.start_ms, window.end_ms, window_ms)
        return sum(start_ms in state.windows for start_ms in windows) >= LOGGED_SHARE_MIN * len(windows)

    def prune(self, state: LogSilenceState, now_ms: int) -> None:
        """Drop windows by event time, not by the newest log: logs may be far ahead of the insights that wait."""
        state.windows = {start_ms: True for start_ms in state.windows if start_ms >= now_ms - KEPT_MS}
