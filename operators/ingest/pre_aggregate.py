"""PreMerge: what the messages of one Kafka partition say, merged until event time moves, before it is keyed by service.

Driven by `FoldedMessage`; puts out `SpanPartial`, `CallHalves`, `LogPartial` or `ExceptionPartial`, `ShapePartial`,
`LogsHeard`, `EnvPresence` and `NameOverflow`. So the keyed rate follows services, not messages. Here the number of
service names is bounded: the key is the source partition, so its state, and with it the choice of names, survives a
restart. Partials commute: merging here changes no result.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.activity import EnvPresence, Presence, PresencePane
from state_schemas.aggregates.calls import CallHalves
from state_schemas.aggregates.log_silence import LogsHeard
from state_schemas.aggregates.logs import ExceptionPartial, LinePartial, LogBlock, LogPartial
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.names import OTHER, NameOverflow
from state_schemas.aggregates.requests import ShapePartial
from state_schemas.aggregates.spans import GROUP_DTYPE, SPAN_DTYPE, SpanBatch, SpanPartial
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.state.pre_aggregate import PREMERGE_CODEC, PreMergeState
from state_schemas.telemetry.message import OffsetRange
from udfs.activity import merge_overflow, merge_presence
from udfs.detect.requests.counts import logs_heard, shapes_of_lines
from udfs.logs.window import merge_log_partials, without_quiet
from udfs.spans.grouping import common, halves_of, partials_of, presence_of
from udfs.spans.window import NameLimits

# Flushed early beyond this. What waits is state, written at each end of a bundle: 16 bytes a span.
SPANS_WAITING_MAX: Final = 32_768
MESSAGES_WAITING_MAX: Final = 2_000
HEARD: Final = LogBlock(())
TOLD_MAX: Final = 4  # spans in time are at most two minutes older than their message and five newer
SPANS_OF_A_PATTERN: Final = 16  # a pattern with its texts and samples is as large as so many spans

Output = SpanPartial | CallHalves | LinePartial | ShapePartial | LogsHeard | EnvPresence | NameOverflow


@dataclass(frozen=True, slots=True)
class PreMergeConfig:
    """services_max: services kept apart in an environment, envs_max: environments; further ones become `other`.

    Both are per source partition. A name unheard for idle_ms of event time frees its place. pane_ms: of all panes.
    spans_heard_ms: that a service has spans is told once in so long.
    """

    services_max: int = 5_000
    envs_max: int = 50
    idle_ms: int = 24 * 3_600_000
    pane_ms: int = 10_000
    # Each minute would cost more than all else of exceptions: 0.37 of a core at 10,000 services.
    spans_heard_ms: int = 300_000
    names: NameLimits = field(default_factory=NameLimits)


class PreMerge:
    """See the module. One state for each (topic, partition). lines: the type under which lines leave."""

    def __init__(self, config: PreMergeConfig, lines: type[LogPartial] | type[ExceptionPartial] = LogPartial) -> None:
        self.config = config
        self._lines = lines

    @property
    def codec(self) -> Codec[PreMergeState]:
        return PREMERGE_CODEC

    def initial(self, key: str) -> PreMergeState:
        return PreMergeState()

    def on_event(self, state: PreMergeState, event: FoldedMessage, watermark_ms: int) -> Step[PreMergeState, Output]:
        over = [0, 0]
        if event.spans is not None:
            state.spans.append(self._admitted_batch(state, event.spans, over))
            state.waiting += len(event.spans.spans) // SPAN_DTYPE.itemsize
        for partial in event.logs:
            state.logs.append(self._admitted_lines(state, partial))
            state.waiting += SPANS_OF_A_PATTERN * sum(len(block.patterns) for _, _, block in partial.panes)
        for presence in event.presence:
            first = presence.panes[0]
            env = self._admit_env(state, presence.env, first.start_ms, first.ranges)
            panes = [self._admitted(state, env, pane) for pane in presence.panes]
            state.presence.setdefault(env, []).extend(panes)
            state.waiting += len(panes)
        state.messages += 1
        counts: tuple[tuple[MetricName, int], ...] = (
            ("services_overflowed_total", over[0]),
            ("envs_overflowed_total", over[1]),
        )
        if state.waiting > SPANS_WAITING_MAX or state.messages > MESSAGES_WAITING_MAX:
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
                state.heard[env] = {name: told for name, told in state.heard.get(env, {}).items() if name in kept}
            if not kept:
                del state.known[env]
                state.heard.pop(env, None)
        if not state.known:
            return Step(None, out, None, (("states_forgotten_total", 1),))
        return Step(state, out, self._idle_wake_ms(state, now_ms))

    def _idle_wake_ms(self, state: PreMergeState, now_ms: int) -> int:
        oldest_ms = min((min(names.values()) for names in state.known.values()), default=now_ms)
        # Nothing waits: the next wake is for names alone, and once an hour is soon enough for them.
        return max(now_ms + 3_600_000, oldest_ms + self.config.idle_ms)

    def _admitted_batch(self, state: PreMergeState, batch: SpanBatch, over: list[int]) -> SpanBatch:
        """The batch under the names that are let through. over: services and environments that were not, added up."""
        newest: dict[int, tuple[bool, int]] = {}
        groups = np.frombuffer(batch.groups, GROUP_DTYPE)[["service", "start_ms", "late"]].tolist()
        for place, start_ms, late in groups:
            newest[place] = max((not late, start_ms), newest.get(place, (False, 0)))
        names = list(batch.services)
        for place, (in_time, start_ms) in sorted(newest.items()):
            asked_env, asked = names[place]
            # An old name among late spans is counted under `other` too, but it is no news.
            ranges = (batch.at,) if in_time else ()
            env = self._admit_env(state, asked_env, start_ms, ranges)
            service = self._admit(state, env, asked, start_ms, ranges)
            over[0] += service != asked
            over[1] += env != asked_env
            names[place] = (env, service)
        for place, start_ms, late in groups:
            if not late:
                env, service = names[place]
                self._hear(state, env, service, start_ms)
        if over == [0, 0]:
            return batch
        return msgspec.structs.replace(batch, services=tuple(names))

    def _hear(self, state: PreMergeState, env: str, service: str, start_ms: int) -> None:
        """That a service has spans, once in spans_heard_ms: what they throw is new, or gone, in terms of time observed.

        It stands in the last pane of that stretch, which becomes final when nothing of it can come any more. Which of
        the last TOLD_MAX were told is remembered; an older one may be told again, which says no more than once.
        """
        stretch_ms = self.config.spans_heard_ms
        stretch = start_ms // stretch_ms
        newest, told = divmod(state.heard.setdefault(env, {}).get(service, 0), 1 << TOLD_MAX)
        if stretch > newest:
            newest, told = stretch, told << min(stretch - newest, TOLD_MAX)
        bit = 1 << min(newest - stretch, TOLD_MAX)
        if not told & bit:
            state.heard[env][service] = (newest << TOLD_MAX) | ((told | bit) % (1 << TOLD_MAX))
            last_ms = (stretch + 1) * stretch_ms - self.config.pane_ms
            state.logs.append(LogPartial(env, service, ((last_ms, False, HEARD),)))
            state.waiting += 1

    def _admitted(self, state: PreMergeState, env: str, pane: PresencePane) -> PresencePane:
        names = (self._admit(state, env, heard.service, pane.start_ms, pane.ranges) for heard in pane.seen)
        seen = (Presence(heard.signal, name, heard.records) for heard, name in zip(pane.seen, names, strict=True))
        return PresencePane(pane.start_ms, tuple(seen), pane.ranges)

    def _admitted_lines(self, state: PreMergeState, partial: LogPartial) -> LogPartial:
        start_ms, late, block = partial.panes[-1]
        ranges = () if late else block.ranges
        env = self._admit_env(state, partial.env, start_ms, ranges)
        return LogPartial(env, self._admit(state, env, partial.service, start_ms, ranges), partial.panes)

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
        if not told.ranges:
            return
        place = (told.env, told.start_ms, told.subject)
        state.overflowed[place] = merge_overflow(told, state.overflowed.get(place, told))

    def _flush(self, state: PreMergeState) -> tuple[Output, ...]:
        """Everything that waits, merged, in key order."""
        panes = state.presence
        for env, found in presence_of(state.spans).items():
            panes.setdefault(env, []).extend(found)
        out: list[Output] = []
        if state.spans:
            columns = common(state.spans)
            out += partials_of(columns, self.config.names)
            out += halves_of(columns)
        lines = merge_log_partials(state.logs)
        if self._lines is LogPartial:
            out += shapes_of_lines(lines)
            out += logs_heard(lines)
        out += (self._lines(part.env, part.service, part.panes) for part in without_quiet(lines))
        out += (EnvPresence(env, merge_presence(found)) for env, found in sorted(panes.items()))
        out += (told for _, told in sorted(state.overflowed.items()))
        for waiting in (state.spans, state.logs, state.presence, state.overflowed):
            waiting.clear()
        state.waiting = state.messages = 0
        return tuple(out)
