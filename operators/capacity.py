"""Capacity: says once, not once a second, that an environment has more service names than are kept apart.

Driven by `ServiceOverflow`; puts out `InsightRevision`.
"""

from dataclasses import dataclass

from operators.machine import END_OF_INPUT, Step
from state_schemas.codec import Codec
from state_schemas.insights import Evidence, Insight, Window, to_json
from state_schemas.outputs import InsightRevision
from state_schemas.partials import ServiceOverflow
from state_schemas.presence import CAPACITY_CODEC, CapacityState
from udfs.ids import insight_id
from udfs.partials import merge_overflow
from udfs.spike_report import kafka_ranges


@dataclass(frozen=True, slots=True)
class CapacityConfig:
    """quiet_ms: an overflow that goes on is one insight until it has been away for so long (event time)."""

    pane_ms: int = 10_000
    lateness_ms: int = 120_000
    quiet_ms: int = 3_600_000


class Capacity:
    """See the module. One state for each environment that overflowed; told once the first pane of it is final."""

    def __init__(self, config: CapacityConfig) -> None:
        self.config = config

    @property
    def codec(self) -> Codec[CapacityState]:
        return CAPACITY_CODEC

    def initial(self, key: str) -> CapacityState:
        return CapacityState()

    def on_event(
        self, state: CapacityState, event: ServiceOverflow, watermark_ms: int
    ) -> Step[CapacityState, InsightRevision]:
        state.last_seen_ms = max(state.last_seen_ms, event.start_ms)
        if not state.told:
            state.panes[event.start_ms] = merge_overflow(event, state.panes.get(event.start_ms, event))
        return Step(state, (), self._next_wake_ms(state, watermark_ms))

    def on_wake(self, state: CapacityState, now_ms: int) -> Step[CapacityState, InsightRevision]:
        out: tuple[InsightRevision, ...] = ()
        if state.panes and (now_ms == END_OF_INPUT or self._final_ms(state) <= now_ms):
            out = (_insight(state.panes[min(state.panes)], self.config.pane_ms),)
            state.panes.clear()
            state.told = True
        if now_ms == END_OF_INPUT or now_ms >= state.last_seen_ms + self.config.quiet_ms:
            return Step(None, out, None, (("insights_emitted_total", len(out)), ("states_forgotten_total", 1)))
        return Step(state, out, self._next_wake_ms(state, now_ms), (("insights_emitted_total", len(out)),))

    def _final_ms(self, state: CapacityState) -> int:
        return min(state.panes) + self.config.pane_ms + self.config.lateness_ms

    def _next_wake_ms(self, state: CapacityState, now_ms: int) -> int:
        quiet_ms = state.last_seen_ms + self.config.quiet_ms
        return max(now_ms + 1, min(self._final_ms(state), quiet_ms) if state.panes else quiet_ms)


def _insight(event: ServiceOverflow, pane_ms: int) -> InsightRevision:
    title = (
        f"{event.env} has more than {event.services_max} service names: further ones, such as {event.example[:80]}, "
        "are counted together as 'other'; is a version or an id part of service.name?"
    )
    insight = Insight(
        insight_id=insight_id("capacity", event.env, "", "service.name", event.start_ms),
        revision=0,
        status="open",
        kind="capacity",
        env=event.env,
        service="",
        subject="service.name",
        window=Window(start_ms=event.start_ms, end_ms=event.start_ms + pane_ms),
        severity="warning",
        confidence=1.0,
        title=title,
        measures={"services_max": float(event.services_max)},
        evidence=Evidence(kafka=kafka_ranges(event.ranges), expected=f"at most {event.services_max} names"),
    )
    return InsightRevision(event.env, "", insight.insight_id, 0, to_json(insight))
