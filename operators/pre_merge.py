"""PreMerge: what the messages of one Kafka partition say, merged until event time moves, before it is keyed by service.

Driven by `FoldedMessage`; puts out `SpanPartial`, `EnvPresence` and `NameOverflow`. It makes the keyed rate follow
services, not messages, and it is where the number of service names is bounded: the key is the source partition, so its
state, and with it the choice of names, survives a restart. Partials commute, so merging here changes no result.
"""

from dataclasses import dataclass, field
from typing import Final

from operators.machine import END_OF_INPUT, Step
from state_schemas.codec import Codec
from state_schemas.metrics import MetricName
from state_schemas.partials import (
    OTHER,
    EnvPresence,
    FoldedMessage,
    NameOverflow,
    OffsetRange,
    Presence,
    PresencePane,
    SpanPartial,
)
from state_schemas.presence import PREMERGE_CODEC, PreMergeState
from udfs.ids import service_key
from udfs.partials import NameLimits, merge_overflow, merge_partials, merge_presence

# Flushed early beyond this, so that a stalled watermark (one silent partition) cannot fill the state.
WAITING_MAX: Final = 2_000

Output = SpanPartial | EnvPresence | NameOverflow


@dataclass(frozen=True, slots=True)
class PreMergeConfig:
    """services_max: services kept apart in an environment, envs_max: environments; further ones become `other`.

    Both are per source partition. A name unheard for idle_ms of event time frees its place.
    """

    services_max: int = 5_000
    envs_max: int = 50
    idle_ms: int = 24 * 3_600_000
    names: NameLimits = field(default_factory=NameLimits)


class PreMerge:
    """See the module. One state for each (topic, partition)."""

    def __init__(self, config: PreMergeConfig) -> None:
        self.config = config

    @property
    def codec(self) -> Codec[PreMergeState]:
        return PREMERGE_CODEC

    def initial(self, key: str) -> PreMergeState:
        return PreMergeState()

    def on_event(self, state: PreMergeState, event: FoldedMessage, watermark_ms: int) -> Step[PreMergeState, Output]:
        services_over = envs_over = 0
        for partial in event.partials:
            newest_ms, _, block = partial.panes[-1]
            env = self._admit_env(state, partial.env, newest_ms, block.ranges)
            service = self._admit(state, env, partial.service, newest_ms, block.ranges)
            envs_over += env != partial.env
            services_over += service != partial.service
            renamed = SpanPartial(env, service, partial.panes)
            state.spans.setdefault(service_key(env, service), []).append(renamed)
        for presence in event.presence:
            first = presence.panes[0]
            env = self._admit_env(state, presence.env, first.start_ms, first.ranges)
            panes = [self._admitted(state, env, pane) for pane in presence.panes]
            state.presence.setdefault(env, []).extend(panes)
        state.waiting += len(event.partials) + len(event.presence)
        counts: tuple[tuple[MetricName, int], ...] = (
            ("services_overflowed_total", services_over),
            ("envs_overflowed_total", envs_over),
        )
        if state.waiting > WAITING_MAX:
            return Step(state, self._flush(state), self._idle_wake_ms(state, watermark_ms), counts)
        return Step(state, wake_at_ms=watermark_ms + 1, counts=counts)

    def on_wake(self, state: PreMergeState, now_ms: int) -> Step[PreMergeState, Output]:
        out = self._flush(state)
        if now_ms == END_OF_INPUT:
            return Step(None, out)
        for env, names in list(state.known.items()):
            kept = {name: seen for name, seen in names.items() if seen + self.config.idle_ms > now_ms}
            if len(kept) < len(names):
                state.known[env] = kept
            if not kept:
                del state.known[env]
        if not state.known:
            return Step(None, out, None, (("states_forgotten_total", 1),))
        return Step(state, out, self._idle_wake_ms(state, now_ms))

    def _idle_wake_ms(self, state: PreMergeState, now_ms: int) -> int:
        oldest_ms = min((min(names.values()) for names in state.known.values()), default=now_ms)
        # Nothing waits: the next wake is for names alone, and once an hour is soon enough for them.
        return max(now_ms + 3_600_000, oldest_ms + self.config.idle_ms)

    def _admitted(self, state: PreMergeState, env: str, pane: PresencePane) -> PresencePane:
        names = (self._admit(state, env, heard.service, pane.start_ms, pane.ranges) for heard in pane.seen)
        seen = (Presence(heard.signal, name, heard.records) for heard, name in zip(pane.seen, names, strict=True))
        return PresencePane(pane.start_ms, tuple(seen), pane.ranges)

    def _admit_env(self, state: PreMergeState, env: str, start_ms: int, ranges: tuple[OffsetRange, ...]) -> str:
        """The name under which an environment is counted; `other` itself takes no place."""
        if env in state.known or env == OTHER or len(state.known) - (OTHER in state.known) < self.config.envs_max:
            return env
        told = NameOverflow(OTHER, start_ms, self.config.envs_max, env, ranges, "deployment.environment.name")
        self._tell(state, told)
        return OTHER

    def _admit(
        self, state: PreMergeState, env: str, service: str, start_ms: int, ranges: tuple[OffsetRange, ...]
    ) -> str:
        """The name under which a service is counted."""
        known = state.known.setdefault(env, {})
        if service in known or len(known) < self.config.services_max:
            known[service] = max(start_ms, known.get(service, 0))
            return service
        self._tell(state, NameOverflow(env, start_ms, self.config.services_max, service, ranges))
        return OTHER

    def _tell(self, state: PreMergeState, told: NameOverflow) -> None:
        place = (told.env, told.start_ms, told.subject)
        state.overflowed[place] = merge_overflow(told, state.overflowed.get(place, told))

    def _flush(self, state: PreMergeState) -> tuple[Output, ...]:
        """Everything that waits, merged, in key order."""
        out: list[Output] = [merge_partials(partials, self.config.names) for _, partials in sorted(state.spans.items())]
        out += (EnvPresence(env, merge_presence(panes)) for env, panes in sorted(state.presence.items()))
        out += (told for _, told in sorted(state.overflowed.items()))
        for waiting in (state.spans, state.presence, state.overflowed):
            waiting.clear()
        state.waiting = 0
        return tuple(out)
