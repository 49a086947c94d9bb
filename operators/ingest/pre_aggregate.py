"""Pre-aggregation: merging the aggregates of one Kafka partition before they are keyed by service.

Input: `FoldedMessage`. Output: `SpanAggregate`, `CallSides`, `LogAggregate` or `ExceptionAggregate`, `EffectAggregate`,
`LoggingWindows` and `EnvActivity`. Aggregates are merged until event time advances, so the rate of keyed events depends
on the number of services, not of messages. The number of service names is bounded here: the key is the source
partition, so the state, and with it the choice of names, survives a restart. Aggregates commute: merging them here
changes no result.
"""

from dataclasses import dataclass, field
from typing import Final, get_args

import msgspec
import numpy as np

from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.activity import Activity, ActivityWindow, EnvActivity
from state_schemas.aggregates.calls import CallSides
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.logs import ExceptionAggregate, LogAggregate, LogTable
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.requests import EffectAggregate
from state_schemas.aggregates.spans import GROUP_DTYPE, SPAN_DTYPE, SpanAggregate, SpanBatch
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.state.pre_aggregate import PRE_AGGREGATE_CODEC, PreAggregateState
from state_schemas.telemetry.signals import SignalType
from udfs.activity import merge_activity
from udfs.detect.requests.counts import effects_of_lines, logging_windows
from udfs.event_time import WINDOW_MS
from udfs.logs.window import merge_log_aggregates, with_ordinary_as_one
from udfs.spans.grouping import activity_of, aggregates_of, call_sides_of, common
from udfs.spans.window import NameLimits

# More spans or messages are flushed early. Those that wait are state, written after each bundle: 16 bytes a span.
SPANS_WAITING_MAX: Final = 32_768
MESSAGES_WAITING_MAX: Final = 2_000
SERVICE_IS_ACTIVE: Final = LogTable(())
REPORTED_MAX: Final = 4  # spans that are not late are at most 2 minutes older and 5 minutes newer than their message
SPANS_OF_A_PATTERN: Final = 16  # a pattern with its texts and samples is as large as this many spans

OfTraces = SpanAggregate | CallSides | ExceptionAggregate | EnvActivity
OfLogs = LogAggregate | EffectAggregate | LoggingWindows | EnvActivity
Output = OfTraces | OfLogs


@dataclass(frozen=True, slots=True)
class PreAggregateConfig:
    """Settings of pre-aggregation. All limits are per source partition."""

    # Services with a name of their own in an environment; further ones become `other`.
    services_max: int = 5_000
    # Environments with a name of their own; further ones become `other`.
    envs_max: int = 50
    # Milliseconds of event time without records after which a name is forgotten and its place is free.
    idle_ms: int = 24 * 3_600_000
    # Length of all windows in milliseconds.
    window_ms: int = WINDOW_MS
    # Milliseconds per report that a service has spans. Reports each minute would cost more than all other work on
    # exceptions: 0.37 of a core at 10,000 services.
    activity_report_ms: int = 300_000
    # Hosts, operations and callees with a row of their own.
    names: NameLimits = field(default_factory=NameLimits)


@dataclass(frozen=True, slots=True)
class _Refused:
    """Names of one message that were replaced by `other`: (environment, service), and environments."""

    services: set[tuple[str, str]] = field(default_factory=set)
    envs: set[str] = field(default_factory=set)


class PreAggregate:
    """The machine of pre-aggregation, with one state for each (topic, partition).

    signal: signal type of its messages; it decides the types of the output.
    """

    takes = (FoldedMessage,)

    def __init__(self, config: PreAggregateConfig, signal: SignalType) -> None:
        self.config = config
        self.gives = {"traces": get_args(OfTraces), "logs": get_args(OfLogs), "metrics": (EnvActivity,)}[signal]
        self._lines = ExceptionAggregate if signal == "traces" else LogAggregate

    @property
    def codec(self) -> Codec[PreAggregateState]:
        return PRE_AGGREGATE_CODEC

    def initial(self, key: str) -> PreAggregateState:
        return PreAggregateState()

    def on_event(
        self, state: PreAggregateState, event: FoldedMessage, watermark_ms: int
    ) -> Step[PreAggregateState, Output]:
        refused = _Refused()
        if event.spans is not None:
            state.spans.append(self._admitted_batch(state, event.spans, refused))
            state.waiting += len(event.spans.spans) // SPAN_DTYPE.itemsize
        for aggregate in event.logs:
            state.logs.append(self._admitted_lines(state, aggregate, refused))
            state.waiting += SPANS_OF_A_PATTERN * sum(len(table.patterns) for _, _, table in aggregate.windows)
        for activity in event.activity:
            env = self._admit_env(state, activity.env, refused)
            windows = [self._admitted(state, env, window, refused) for window in activity.windows]
            state.activity.setdefault(env, []).extend(windows)
            state.waiting += len(windows)
        state.messages += 1
        counts: tuple[tuple[MetricName, int], ...] = (
            ("services_overflowed_total", len(refused.services)),
            ("envs_overflowed_total", len(refused.envs)),
        )
        if state.waiting > SPANS_WAITING_MAX or state.messages > MESSAGES_WAITING_MAX:
            return Step(state, self._flush(state), self._idle_timer_ms(state, watermark_ms), counts)
        return Step(state, timer_at_ms=watermark_ms + 1, counts=counts)

    def on_timer(self, state: PreAggregateState, now_ms: int) -> Step[PreAggregateState, Output]:
        out = self._flush(state)
        if now_ms == END_OF_INPUT:
            return Step(None, out)
        for env, names in list(state.known.items()):
            kept = {name: seen for name, seen in names.items() if seen + self.config.idle_ms > now_ms}
            if len(kept) < len(names):
                state.known[env] = kept
                state.reported[env] = {
                    name: reported for name, reported in state.reported.get(env, {}).items() if name in kept
                }
            if not kept:
                del state.known[env]
                state.reported.pop(env, None)
        if not state.known:
            return Step(None, out, None, (("states_forgotten_total", 1),))
        return Step(state, out, self._idle_timer_ms(state, now_ms))

    def _idle_timer_ms(self, state: PreAggregateState, now_ms: int) -> int:
        oldest_ms = min((min(names.values()) for names in state.known.values()), default=now_ms)
        # No aggregates wait: the next timer only removes idle names, for which once an hour is sufficient.
        return max(now_ms + 3_600_000, oldest_ms + self.config.idle_ms)

    def _admitted_batch(self, state: PreAggregateState, batch: SpanBatch, refused: _Refused) -> SpanBatch:
        """Return the batch with the names under which its spans are counted."""
        newest: dict[int, int] = {}
        groups = np.frombuffer(batch.groups, GROUP_DTYPE)[["service", "start_ms", "late"]].tolist()
        for place, start_ms, _ in groups:
            newest[place] = max(start_ms, newest.get(place, 0))
        names = list(batch.services)
        for place, start_ms in sorted(newest.items()):
            env = self._admit_env(state, names[place][0], refused)
            names[place] = (env, self._admit(state, env, names[place][1], start_ms, refused))
        for place, start_ms, late in groups:
            if not late:
                env, service = names[place]
                self._observe(state, env, service, start_ms)
        return msgspec.structs.replace(batch, services=tuple(names))

    def _observe(self, state: PreAggregateState, env: str, service: str, start_ms: int) -> None:
        """Report that a service has spans, once in activity_report_ms.

        New and missing exceptions are judged by the time in which a service was observed. The report belongs to the
        last window of the interval, which becomes final when no record of the interval can arrive any more. The state
        remembers which of the last REPORTED_MAX intervals were reported; an older interval may be reported again, which
        changes no result.
        """
        interval_ms = self.config.activity_report_ms
        interval = start_ms // interval_ms
        newest, reported = divmod(state.reported.setdefault(env, {}).get(service, 0), 1 << REPORTED_MAX)
        if interval > newest:
            newest, reported = interval, reported << min(interval - newest, REPORTED_MAX)
        bit = 1 << min(newest - interval, REPORTED_MAX)
        if not reported & bit:
            state.reported[env][service] = (newest << REPORTED_MAX) | ((reported | bit) % (1 << REPORTED_MAX))
            last_ms = (interval + 1) * interval_ms - self.config.window_ms
            state.logs.append(LogAggregate(env, service, ((last_ms, False, SERVICE_IS_ACTIVE),)))
            state.waiting += 1

    def _admitted(
        self, state: PreAggregateState, env: str, window: ActivityWindow, refused: _Refused
    ) -> ActivityWindow:
        names = (self._admit(state, env, reported.service, window.start_ms, refused) for reported in window.seen)
        seen = (
            Activity(reported.signal, name, reported.records) for reported, name in zip(window.seen, names, strict=True)
        )
        return ActivityWindow(window.start_ms, tuple(seen), window.ranges)

    def _admitted_lines(self, state: PreAggregateState, aggregate: LogAggregate, refused: _Refused) -> LogAggregate:
        env = self._admit_env(state, aggregate.env, refused)
        service = self._admit(state, env, aggregate.service, aggregate.windows[-1][0], refused)
        return LogAggregate(env, service, aggregate.windows)

    def _admit_env(self, state: PreAggregateState, env: str, refused: _Refused) -> str:
        """Return the name under which an environment is counted; `other` itself uses no place."""
        if env in state.known or env == OTHER or len(state.known) - (OTHER in state.known) < self.config.envs_max:
            return env
        refused.envs.add(env)
        return OTHER

    def _admit(self, state: PreAggregateState, env: str, service: str, start_ms: int, refused: _Refused) -> str:
        """Return the name under which a service is counted."""
        known = state.known.setdefault(env, {})
        if service in known or len(known) < self.config.services_max:
            known[service] = max(start_ms, known.get(service, 0))
            return service
        refused.services.add((env, service))
        return OTHER

    def _flush(self, state: PreAggregateState) -> tuple[Output, ...]:
        """Merge and return everything that waits, in key order."""
        windows = state.activity
        for env, found in activity_of(state.spans).items():
            windows.setdefault(env, []).extend(found)
        out: list[Output] = []
        if state.spans:
            columns = common(state.spans)
            out += aggregates_of(columns, self.config.names)
            out += call_sides_of(columns)
        lines = merge_log_aggregates(state.logs)
        if self._lines is LogAggregate:
            out += effects_of_lines(lines)
            out += logging_windows(lines)
        out += (self._lines(part.env, part.service, part.windows) for part in with_ordinary_as_one(lines))
        out += (EnvActivity(env, merge_activity(found)) for env, found in sorted(windows.items()))
        for waiting in (state.spans, state.logs, state.activity):
            waiting.clear()
        state.waiting = state.messages = 0
        return tuple(out)
