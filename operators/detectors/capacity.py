"""Capacity: says once, not once a second, that there are more names, or patterns of a service, than are kept apart.

Driven by `NameOverflow`; puts out `InsightRevision`.
"""

from dataclasses import dataclass
from typing import Final

from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.names import NameOverflow
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Evidence, Insight, InsightRevision, Window, to_json
from state_schemas.state.capacity import CAPACITY_CODEC, CapacityState
from udfs.activity import merge_overflow
from udfs.insights.ids import insight_id
from udfs.insights.wording import kafka_ranges, title_of

# Subject -> what there is too much of, and the name of its bound.
_WORDS: Final = {
    "service.name": ("service names", "services_max"),
    "deployment.environment.name": ("environment names", "envs_max"),
    "log.pattern": ("patterns of WARN and up", "patterns_max"),
}


@dataclass(frozen=True, slots=True)
class CapacityConfig:
    """close_after_ms: an overflow that goes on is one insight until it has been away for so long (event time)."""

    window_ms: int = 10_000
    lateness_ms: int = 120_000
    close_after_ms: int = 3_600_000


class Capacity:
    """See the module. One state for each environment, attribute and, where it is about one, service.

    It is told when its first window is final.
    """

    def __init__(self, config: CapacityConfig) -> None:
        self.config = config

    @property
    def codec(self) -> Codec[CapacityState]:
        return CAPACITY_CODEC

    def initial(self, key: str) -> CapacityState:
        return CapacityState()

    def on_event(
        self, state: CapacityState, event: NameOverflow, watermark_ms: int
    ) -> Step[CapacityState, InsightRevision]:
        if event.start_ms > state.last_final_ms:
            state.windows[event.start_ms] = merge_overflow(event, state.windows.get(event.start_ms, event))
        return Step(state, (), self._next_timer_ms(state, watermark_ms))

    def on_timer(self, state: CapacityState, now_ms: int) -> Step[CapacityState, InsightRevision]:
        out: list[InsightRevision] = []
        for start_ms in sorted(state.windows):
            if now_ms < self._final_ms(start_ms):
                break
            window = state.windows.pop(start_ms)
            if not state.last_final_ms or start_ms >= state.last_final_ms + self.config.close_after_ms:
                out.append(_insight(window, self.config.window_ms))
            state.last_final_ms = max(start_ms, state.last_final_ms)
        counts: tuple[tuple[MetricName, int], ...] = (("insights_emitted_total", len(out)),)
        quiet = not state.windows and now_ms >= self._quiet_ms(state)
        if now_ms == END_OF_INPUT or quiet:
            return Step(None, tuple(out), None, (*counts, ("states_forgotten_total", 1)))
        return Step(state, tuple(out), self._next_timer_ms(state, now_ms), counts)

    def _final_ms(self, start_ms: int) -> int:
        return start_ms + self.config.window_ms + self.config.lateness_ms

    def _next_timer_ms(self, state: CapacityState, now_ms: int) -> int:
        return max(now_ms + 1, self._final_ms(min(state.windows)) if state.windows else self._quiet_ms(state))

    def _quiet_ms(self, state: CapacityState) -> int:
        """When no window can come any more that begins within close_after_ms of the last one."""
        return self._final_ms(state.last_final_ms + self.config.close_after_ms)


def _insight(event: NameOverflow, window_ms: int) -> InsightRevision:
    names, measure = _WORDS[event.subject]
    who = "" if event.subject == "deployment.environment.name" else f"{event.service or event.env} has "
    such, hint = f", such as {event.example[:80]},", f"is a version or an id part of {event.subject}"
    if event.service:
        such, hint = "", "do its lines hold names that should be parameters"
    title = f"{who}more than {event.names_max} {names}: further ones{such} are counted together as 'other'; {hint}?"
    insight = Insight(
        insight_id=insight_id("capacity", event.env, event.service, event.subject, event.start_ms),
        revision=0,
        status="open",
        kind="capacity",
        env=event.env,
        service=event.service,
        subject=event.subject,
        window=Window(start_ms=event.start_ms, end_ms=event.start_ms + window_ms),
        severity="warning",
        confidence=1.0,
        title=title_of(title),
        measures={measure: float(event.names_max)},
        evidence=Evidence(kafka=kafka_ranges(event.ranges), expected=f"at most {event.names_max} names"),
    )
    return InsightRevision(event.env, event.service, insight.insight_id, 0, to_json(insight))
