"""Pre-aggregation: merging the aggregates of one Kafka partition before they are keyed by service.

Input: `FoldedMessage`. Output: `SpanAggregate`, `CallSides`, `LogAggregate` or `ExceptionAggregate`, `EffectAggregate`,
`LoggingWindows`, `EnvActivity`, `ServiceReleases`, `RuleSignalBatch` and `RecordSignalBatch`. Aggregates are merged
until event time advances, so the rate of keyed events depends on the number of services, not of messages. The number of
service names is bounded here: the key is the source partition, so the state, and with it the choice of names, survives
a restart. Aggregates commute: merging them here changes no result.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar, get_args

import msgspec
import numpy as np

from operators.ingest.name_admission import AdmittedNames, PreAggregateConfig, forget_names
from operators.ingest.release_reports import ReleaseReports
from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.activity import Activity, ActivityWindow, EnvActivity
from state_schemas.aggregates.calls import CallSides
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.logs import ExceptionAggregate, LogAggregate, LogTable
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.releases import ServiceReleases
from state_schemas.aggregates.requests import EffectAggregate
from state_schemas.aggregates.rule_signals import RecordSignalBatch, RuleSignalBatch, SignalBatch, SubjectSignal
from state_schemas.aggregates.spans import GROUP_DTYPE, SPAN_DTYPE, SpanAggregate, SpanBatch
from state_schemas.contracts.counters import MetricName
from state_schemas.state.pre_aggregate import PRE_AGGREGATE_CODEC, PreAggregateState
from state_schemas.telemetry.signals import SIGNALS, SignalType
from udfs.activity import merge_activity
from udfs.detect.requests.counts import effects_of_lines, logging_windows
from udfs.logs.window import merge_log_aggregates, with_ordinary_as_one
from udfs.releases import merge_releases
from udfs.rules.subjects import bucket_of
from udfs.rules.windows import batches
from udfs.spans.grouping import activity_of, common

# More spans or messages are flushed early. Those that wait are state, written after each bundle: 16 bytes a span.
SPANS_WAITING_MAX: Final = 32_768
MESSAGES_WAITING_MAX: Final = 2_000
SIGNALS_WAITING_MAX: Final = 8_000  # of rules; 250 bytes each
SERVICE_IS_ACTIVE: Final = LogTable(())
REPORTED_MAX: Final = 4  # spans that are not late are at most 2 minutes older and 5 minutes newer than their message
SPANS_OF_A_PATTERN: Final = 16  # a pattern with its texts and samples is as large as this many spans

OfAll = EnvActivity | ServiceReleases
OfTraces = SpanAggregate | CallSides | ExceptionAggregate | OfAll
OfLogs = LogAggregate | EffectAggregate | LoggingWindows | OfAll
Counts = tuple[tuple[MetricName, int], ...]
S = TypeVar("S", bound=SubjectSignal)
Out = TypeVar("Out")  # the outputs of a signal type beside those of all


class PreAggregate(ABC, Generic[Out]):
    """Pre-aggregation of one signal type, with one state for each (topic, partition)."""

    codec = PRE_AGGREGATE_CODEC
    takes = (FoldedMessage,)
    # Types of its outputs beside signals of rules.
    merges: tuple[type, ...]

    def __init__(self, config: PreAggregateConfig, *, has_rules: bool = False) -> None:
        """Prepare the machine. has_rules: whether there are signals of rules."""
        self.config = config
        self.gives = (*self.merges, RuleSignalBatch, RecordSignalBatch) if has_rules else self.merges
        self._has_rules = has_rules

    def initial(self, key: str) -> PreAggregateState:
        return PreAggregateState()

    def on_event(
        self, state: PreAggregateState, event: FoldedMessage, watermark_ms: int
    ) -> Step[PreAggregateState, Out | OfAll | SignalBatch]:
        names = AdmittedNames(state, self.config)
        reports = ReleaseReports(state, self.config.activity_report_ms)
        self._add(state, event, names, reports)
        counts: Counts = (*names.counts, ("releases_overflowed_total", reports.refused))
        state.messages += 1
        if self._has_rules:
            state.signals += (_admitted_signal(signal, names) for signal in event.signals)
            state.record_signals += (_admitted_signal(signal, names) for signal in event.record_signals)
        if state.waiting > SPANS_WAITING_MAX or state.messages > MESSAGES_WAITING_MAX:
            return Step(state, self._flush(state), self._idle_timer_ms(state, watermark_ms), counts)
        are_full = len(state.signals) + len(state.record_signals) > SIGNALS_WAITING_MAX
        return Step(state, _signal_batches(state) if are_full else (), watermark_ms + 1, counts)

    def on_timer(self, state: PreAggregateState, now_ms: int) -> Step[PreAggregateState, Out | OfAll | SignalBatch]:
        out = self._flush(state)
        if now_ms == END_OF_INPUT:
            return Step(None, out)
        forget_names(state, now_ms - self.config.idle_ms)
        if not state.known:
            return Step(None, out, None, (("states_forgotten_total", 1),))
        return Step(state, out, self._idle_timer_ms(state, now_ms))

    def _idle_timer_ms(self, state: PreAggregateState, now_ms: int) -> int:
        oldest_ms = min((min(names.values()) for names in state.known.values()), default=now_ms)
        # No aggregates wait: the next timer only removes idle names, for which once an hour is sufficient.
        return max(now_ms + 3_600_000, oldest_ms + self.config.idle_ms)

    def _add(
        self, state: PreAggregateState, event: FoldedMessage, names: AdmittedNames, reports: ReleaseReports
    ) -> None:
        """Add the contents of a message to those that wait, under the names by which they are counted."""
        for aggregate in event.logs:
            env = names.env(aggregate.env)
            service = names.service(env, aggregate.service, aggregate.windows[-1][0])
            state.logs.append(LogAggregate(env, service, aggregate.windows))
            state.waiting += SPANS_OF_A_PATTERN * sum(len(table.patterns) for _, _, table in aggregate.windows)
        for activity in event.activity:
            env = names.env(activity.env)
            windows = [_admitted(window, env, names) for window in activity.windows]
            state.activity.setdefault(env, []).extend(windows)
            state.waiting += len(windows)
        reports.add(event.releases, names)

    def _flush(self, state: PreAggregateState) -> tuple[Out | OfAll | SignalBatch, ...]:
        """Merge and return everything that waits, in key order."""
        activity = state.activity
        for env, windows in activity_of(state.spans).items():
            activity.setdefault(env, []).extend(windows)
        out: list[Out | OfAll | SignalBatch] = [*self._merged(state)]
        out += (EnvActivity(env, merge_activity(windows)) for env, windows in sorted(activity.items()))
        out += merge_releases(state.releases)
        out += _signal_batches(state)
        for waiting in (state.spans, state.logs, state.activity, state.releases):
            waiting.clear()
        state.waiting = state.messages = 0
        return tuple(out)

    @abstractmethod
    def _merged(self, state: PreAggregateState) -> Iterator[Out]:
        """Yield the merged aggregates of this signal type, activity apart."""


class TracePreAggregate(PreAggregate[OfTraces]):
    """Spans: a table for each service and window, the sides of calls, and exceptions as lines."""

    merges = get_args(OfTraces)

    def _add(
        self, state: PreAggregateState, event: FoldedMessage, names: AdmittedNames, reports: ReleaseReports
    ) -> None:
        if event.spans is not None:
            batch = self._admitted_batch(state, event.spans, names)
            reports.add_spans(event.spans, batch.services)
            state.spans.append(batch)
            state.waiting += len(event.spans.spans) // SPAN_DTYPE.itemsize
        super()._add(state, event, names, reports)

    def _merged(self, state: PreAggregateState) -> Iterator[OfTraces]:
        if state.spans:
            columns = common(state.spans)
            yield from columns.aggregates(self.config.names)
            yield from columns.call_sides()
        for part in with_ordinary_as_one(merge_log_aggregates(state.logs)):
            yield ExceptionAggregate(part.env, part.service, part.windows)

    def _admitted_batch(self, state: PreAggregateState, batch: SpanBatch, names: AdmittedNames) -> SpanBatch:
        """Return the batch with the names under which its spans are counted."""
        newest: dict[int, int] = {}
        groups = np.frombuffer(batch.groups, GROUP_DTYPE)[["service", "start_ms", "late"]].tolist()
        for place, start_ms, _ in groups:
            newest[place] = max(start_ms, newest.get(place, 0))
        services = list(batch.services)
        for place, start_ms in sorted(newest.items()):
            env = names.env(services[place][0])
            services[place] = (env, names.service(env, services[place][1], start_ms))
        for place, start_ms, late in groups:
            if not late:
                env, service = services[place]
                self._observe(state, env, service, start_ms)
        return msgspec.structs.replace(batch, services=tuple(services), sources=b"")

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


class LogPreAggregate(PreAggregate[OfLogs]):
    """Log records: a table for each service and window, and the lines by which requests are watched."""

    merges = get_args(OfLogs)

    def _merged(self, state: PreAggregateState) -> Iterator[OfLogs]:
        lines = merge_log_aggregates(state.logs)
        yield from effects_of_lines(lines)
        yield from logging_windows(lines)
        yield from with_ordinary_as_one(lines)


class ActivityPreAggregate(PreAggregate[OfAll]):
    """Records of which only the activity of their services is kept, and what they run."""

    merges = get_args(OfAll)

    def _merged(self, state: PreAggregateState) -> Iterator[OfAll]:
        return iter(())


_OWN: Final[Mapping[SignalType, type[PreAggregate[Any]]]] = {"traces": TracePreAggregate, "logs": LogPreAggregate}
PRE_AGGREGATES: Final = {signal: _OWN.get(signal, ActivityPreAggregate) for signal in SIGNALS}


def _signal_batches(state: PreAggregateState) -> tuple[SignalBatch, ...]:
    """Return the signals that wait, and forget them."""
    out = (*batches(RuleSignalBatch, state.signals), *batches(RecordSignalBatch, state.record_signals))
    state.signals.clear()
    state.record_signals.clear()
    return out


def _admitted_signal(signal: S, names: AdmittedNames) -> S:
    """Return a signal under the names by which its environment and its service are counted."""
    env, start_ms = names.env(signal.env), signal.signal.at_ms
    service = names.service(env, signal.signal.service, start_ms)
    if (env, service) == (signal.env, signal.signal.service):
        return signal
    by, _, value = signal.subject.partition("|")
    subject = signal.subject
    if by in ("service", "operation"):
        subject = "|".join((by, service, *value.split("|", 1)[1:]))
    renamed = msgspec.structs.replace(signal.signal, service=service)
    return type(signal)(env, bucket_of(subject), subject, renamed, signal.hits)


def _admitted(window: ActivityWindow, env: str, names: AdmittedNames) -> ActivityWindow:
    seen = (
        Activity(part.signal, names.service(env, part.service, window.start_ms), part.records) for part in window.seen
    )
    return ActivityWindow(window.start_ms, tuple(seen), window.ranges)
