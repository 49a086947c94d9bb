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
from udfs.spike_report import kafka_ranges


@dataclass(frozen=True, slots=True)
class CapacityConfig:
    """quiet_ms: an overflow that goes on is one insight until it has been away for so long (event time)."""

    quiet_ms: int = 3_600_000


class Capacity:
    """See the module. One state for each environment that overflowed."""

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
        is_first = state.since_ms == 0
        state.since_ms = state.since_ms or event.at_ms
        state.last_seen_ms = max(state.last_seen_ms, event.at_ms)
        out = (_insight(event, state.since_ms),) if is_first else ()
        wake_at_ms = max(watermark_ms + 1, state.last_seen_ms + self.config.quiet_ms)
        return Step(state, out, wake_at_ms, (("insights_emitted_total", len(out)),))

    def on_wake(self, state: CapacityState, now_ms: int) -> Step[CapacityState, InsightRevision]:
        quiet_from_ms = state.last_seen_ms + self.config.quiet_ms
        if now_ms == END_OF_INPUT or now_ms >= quiet_from_ms:
            return Step(None)
        return Step(state, wake_at_ms=quiet_from_ms)


def _insight(event: ServiceOverflow, since_ms: int) -> InsightRevision:
    title = (
        f"{event.env} has more than {event.services_max} service names: further ones, such as {event.example[:80]}, "
        "are counted together as 'other'; is a version or an id part of service.name?"
    )
    insight = Insight(
        insight_id=insight_id("capacity", event.env, "", "service.name", since_ms),
        revision=0,
        status="open",
        kind="capacity",
        env=event.env,
        service="",
        subject="service.name",
        window=Window(start_ms=since_ms, end_ms=event.at_ms),
        severity="warning",
        confidence=1.0,
        title=title,
        measures={"services_max": float(event.services_max)},
        evidence=Evidence(kafka=kafka_ranges(event.ranges), expected=f"at most {event.services_max} names"),
    )
    return InsightRevision(event.env, "", insight.insight_id, 0, to_json(insight))
