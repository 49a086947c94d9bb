"""Rule of missing telemetry: one window of an environment against the usual activity of its sources.

That records are missing is concluded only from records of others: a window without any record of the environment has no
result until a later window has records.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

from state_schemas.aggregates.activity import ActivityWindow
from state_schemas.contracts.insight import Insight
from state_schemas.state.telemetry_gap import ActivityHistory, ActivityModel
from udfs.detect.lifecycle import OPEN, Course
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.detect.telemetry_gap.report import EXPIRED, RESUMED, Silence, report

__all__ = ["GapConfig", "evaluate_activity"]

ENVIRONMENT: Final = "|"


@dataclass(frozen=True, slots=True)
class GapConfig:
    """Settings of the rule of missing telemetry.

    The silence of an environment or a signal type is measured in ms, that of a service in *ticks*: windows in which its
    signal type was active in any service.
    """

    # Shortest silence of an environment or a signal type that opens an insight.
    silence_ms: int = 120_000
    # The silence must also be this many times the longest one so far.
    silence_ratio: float = 6.0
    # Active windows before the silence of an environment or a signal type is evaluated.
    signal_warm_windows: int = 12
    # Active windows before the silence of a service is evaluated.
    service_warm_windows: int = 30
    # Fewest silent ticks of a service that open an insight; they must also be twice the longest silence so far.
    silent_ticks_min: int = 12
    # A service that is usually active in the share p of ticks is silent for n ticks with probability ~ exp(-p * n);
    # that must be under exp(-silent_nats).
    silent_nats: float = 14.0
    # A service, or a whole environment, without records for this long is no longer expected and is forgotten.
    idle_ms: int = 24 * 3_600_000


def evaluate_activity(
    model: ActivityModel, window: ServiceWindow[ActivityWindow], config: GapConfig
) -> tuple[ActivityModel, list[Insight]]:
    """Return the model after the window, and its candidates. O(services)."""
    after = deepcopy(model)
    active = window.table.seen
    seen = {ENVIRONMENT, *(f"{part.signal}|" for part in active), *(f"{part.signal}|{part.service}" for part in active)}
    candidates = list(_Evaluation(after.sources, window, config, seen).candidates())
    after.last_end_ms = window.end_ms
    return after, candidates


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """Evaluation of one window, which changes the histories of the sources. seen: sources with records in it."""

    sources: dict[str, ActivityHistory]
    window: ServiceWindow[ActivityWindow]
    config: GapConfig
    seen: set[str]

    def candidates(self) -> Iterator[Insight]:
        yield from self._of_environment()
        for source, history in sorted(self.sources.items()):
            if source in self.seen and history.gap_since_ms:
                yield self._insight(source, history.gap_since_ms, RESUMED)
                history.gap_since_ms = 0
                # A silence that was reported does not count as usual.
                history.last_ms, history.last_tick = self.window.start_ms, self._tick(source)
            elif source not in self.seen and not history.gap_since_ms and self._is_silent(source, history):
                history.gap_since_ms = self._since_ms(history)
                yield self._insight(source, history.gap_since_ms, OPEN)
        for source, tick in [(source, self._tick(source)) for source in sorted(self.seen)]:
            self._learn(self.sources.setdefault(source, ActivityHistory(self.window.start_ms, tick, tick)), tick)
        yield from self._expired()

    def _of_environment(self) -> Iterator[Insight]:
        """Report a silence of the environment, which does not count as one of its signal types."""
        env = self.sources.get(ENVIRONMENT)
        if env is None or not self._is_long(env):
            return
        yield self._insight(ENVIRONMENT, self._since_ms(env), RESUMED)
        for source, history in self.sources.items():
            if not _split(source)[1]:
                history.last_ms = max(history.last_ms, 2 * self.window.start_ms - self.window.end_ms)

    def _is_silent(self, source: str, history: ActivityHistory) -> bool:
        signal, service = _split(source)
        if not service:
            return self._is_long(history)
        return f"{signal}|" in self.seen and self._is_missing(history, self._tick(source))

    def _is_long(self, history: ActivityHistory) -> bool:
        limit_ms = max(self.config.silence_ms, self.config.silence_ratio * history.silence_ms_max)
        silence_ms = self.window.start_ms - self._since_ms(history)
        return history.windows >= self.config.signal_warm_windows and silence_ms >= limit_ms

    def _is_missing(self, history: ActivityHistory, tick: int) -> bool:
        silent = tick - history.last_tick
        usual_share = history.windows / max(1, history.last_tick - history.first_tick + 1)
        return (
            history.windows >= self.config.service_warm_windows
            and silent >= max(self.config.silent_ticks_min, 2 * history.silent_ticks_max)
            and silent * usual_share >= self.config.silent_nats
        )

    def _since_ms(self, history: ActivityHistory) -> int:
        return history.last_ms + self.window.end_ms - self.window.start_ms

    def _tick(self, source: str) -> int:
        """Return the number of windows with records of the signal type, this one included."""
        of_signal = f"{_split(source)[0]}|"
        before = self.sources[of_signal].windows if of_signal in self.sources else 0
        return before + (of_signal in self.seen)

    def _learn(self, history: ActivityHistory, tick: int) -> None:
        start_ms = self.window.start_ms
        history.silence_ms_max = max(history.silence_ms_max, start_ms - self._since_ms(history))
        history.silent_ticks_max = max(history.silent_ticks_max, tick - history.last_tick - 1)
        history.last_ms, history.last_tick = start_ms, tick
        history.windows += 1

    def _expired(self) -> Iterator[Insight]:
        """Forget services without records for idle_ms and close their insights: names with a deploy id come and go."""
        oldest_ms = self.window.start_ms - self.config.idle_ms
        for source, history in sorted(self.sources.items()):
            if history.last_ms < oldest_ms and _split(source)[1]:
                del self.sources[source]
                if history.gap_since_ms:
                    yield self._insight(source, history.gap_since_ms, EXPIRED)

    def _insight(self, source: str, since_ms: int, course: Course) -> Insight:
        signal, service = _split(source)
        end_ms = self.window.end_ms if course == OPEN else self.window.start_ms
        key = ServiceKey(self.window.key.env, service)
        return report(Silence(key, signal, since_ms, end_ms, self.window.table.ranges), course)


def _split(source: str) -> tuple[str, str]:
    """Return the signal type and the service of a source, each "" where the source is all of them."""
    signal, _, service = source.partition("|")
    return signal, service
