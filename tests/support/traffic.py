"""Telemetry of a small fleet for tests: Kafka messages that follow from a `Story`.

A story is a few numbers, so Hypothesis shrinks it well; its seed determines the spans. One window holds about `rate`
spans of a service. Batches are sent every 5 s, so a record is up to `AGE_MS_MAX` old when it is sent.
"""

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Final, NamedTuple

import msgspec
import numpy as np

from operators.ingest.fold import FoldConfig, logs_part
from operators.ingest.name_admission import PreAggregateConfig
from operators.ingest.pre_aggregate import TracePreAggregate
from operators.machine import END_OF_INPUT
from state_schemas.aggregates.activity import EnvActivity
from state_schemas.aggregates.calls import CallSides
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.logs import ExceptionAggregate
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.novelty import LogPatternSighting, PatternSighting, SpanPatternSighting
from state_schemas.aggregates.requests import EffectAggregate
from state_schemas.aggregates.spans import SpanAggregate
from state_schemas.contracts.dead_letter import Rejected
from state_schemas.state.log_patterns import PatternEpisode, Registered
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import KIND_CLIENT, KIND_SERVER, SpanColumns
from tests.support.stories import Story
from udfs.activity import merge_activity
from udfs.detect.lifecycle import OPEN
from udfs.detect.log_patterns.report import report
from udfs.detect.requests.counts import effects_of_lines, effects_of_spans, logging_windows
from udfs.detect.service_window import ServiceKey
from udfs.event_time import TimeLimits
from udfs.insights.ids import insight_id
from udfs.logs.reader import LineReader
from udfs.logs.window import merge_log_aggregates
from udfs.spans.grouping import activity_of, aggregates_of, call_sides_of, common
from udfs.spans.message import fold_spans
from udfs.spans.window import NameLimits

NOON_MS: Final = 1_700_049_600_000
START_MS: Final = 1_700_000_100_000  # 22:15:00 UTC, the start of a five minute window
WINDOW_MS: Final = 10_000
BATCH_MS: Final = 5_000
AGE_MS_MAX: Final = 10_000
LATENESS_MS: Final = 30_000  # short, so that stories of a few minutes have final windows
OUT_OF_ORDER_MS: Final = 5_000
TIMES: Final = TimeLimits(lateness_ms=LATENESS_MS)
MS: Final = 1_000_000
READER: Final = LineReader()


class OneSpan(NamedTuple):
    """A span of a test; its ids follow from `number`, which is unique in a story."""

    service: str
    end_ms: int
    latency_ms: float
    number: int
    host: str = "host-0"
    operation: str = "GET /"
    kind: int = KIND_SERVER
    error: bool = False
    env: str = "prod"
    trace: int = 0  # 0: a trace of its own
    parent: int = 0  # 0: none
    mute: bool = False  # no line is logged for it


class Sent(NamedTuple):
    """A Kafka message before it is folded. logs: (service, event time in ms) of log records sent with it."""

    timestamp_ms: int
    spans: tuple[OneSpan, ...]
    partition: int
    offset: int
    logs: tuple[tuple[str, int], ...] = ()

    @property
    def at(self) -> KafkaPosition:
        return KafkaPosition("trace_events", self.partition, self.offset, self.timestamp_ms)


def messages(story: Story) -> list[Sent]:
    """Return the messages of a story in order of sending. Services alternate between two partitions."""
    random = Random(story.seed)
    sent: list[Sent] = []
    offsets = [0, 0]
    numbers = iter(range(1, 1 << 40))
    for batch in range(story.windows * WINDOW_MS // BATCH_MS):
        timestamp_ms = START_MS + (batch + 1) * BATCH_MS
        for service in range(story.services):
            spans = tuple(_batch(story, service, batch, random, numbers))
            if spans:
                partition = service % 2
                logs = ((spans[0].service, timestamp_ms - 1),) if story.logs and batch % 2 else ()
                sent.append(Sent(timestamp_ms, spans, partition, offsets[partition], logs))
                offsets[partition] += 1
    return _with_calls(sent, random) if story.calls else sent


NETWORK_MS: Final = 3
CLIENT_NUMBERS: Final = 1 << 41  # number of a client span minus that of its server span


def _with_calls(sent: list[Sent], random: Random) -> list[Sent]:
    """Add client spans of service-0 over server spans, to its message of the same time if there is one."""
    homes = {
        message.timestamp_ms: index for index, message in enumerate(sent) if message.spans[0].service == "service-0"
    }
    extended = [list(message.spans) for message in sent]
    for message, spans in zip(sent, extended, strict=True):
        home = homes.get(message.timestamp_ms)
        if home is None or spans is extended[home]:
            continue
        for index, span in enumerate(spans):
            if span.kind == KIND_SERVER and random.random() < 0.8:
                number = CLIENT_NUMBERS + span.number
                spans[index] = span._replace(parent=number)
                call = span._replace(service="service-0", host="host-0", operation="call", kind=KIND_CLIENT)
                times = (span.end_ms - 1, span.latency_ms + NETWORK_MS)
                extended[home].append(call._replace(number=number, end_ms=times[0], latency_ms=times[1]))
    return [message._replace(spans=tuple(spans)) for message, spans in zip(sent, extended, strict=True)]


def _batch(story: Story, service: int, batch: int, random: Random, numbers: Iterator[int]) -> Iterator[OneSpan]:
    first_ms = START_MS + batch * BATCH_MS
    window = batch * BATCH_MS // WINDOW_MS
    if any(hole.covers(service, window) for hole in story.holes):
        return
    factor = max((e.value for e in story.slow if e.covers(service, window)), default=1.0)
    failing = max((e.value for e in story.failing if e.covers(service, window)), default=0.01)
    muted = max((e.value for e in story.mute if e.covers(service, window)), default=0.0)
    for _ in range(random.randint(story.rate // 2, story.rate // 2 + story.rate % 2)):
        host = random.randrange(story.hosts)
        slow = factor > 1 and (host == 0 or random.random() < 0.4)
        age_ms = random.randrange(AGE_MS_MAX - BATCH_MS) if random.random() < 0.2 else 0
        if random.random() < story.late_share:
            age_ms = LATENESS_MS + BATCH_MS + random.randrange(600_000)
        number = next(numbers)
        yield OneSpan(
            service=f"service-{service}",
            end_ms=first_ms + random.randrange(BATCH_MS) - age_ms,
            latency_ms=20 * random.lognormvariate(0, 0.3) * (factor if slow else 1),
            number=number,
            host=f"host-{host}",
            operation=f"GET /{random.randrange(story.operations)}",
            kind=random.choice((KIND_SERVER, KIND_SERVER, KIND_SERVER, 1)),
            error=random.random() < failing,
            trace=number - number % 3 + 1,
            mute=random.random() < muted,
        )


def columns(spans: Sequence[OneSpan]) -> SpanColumns:
    """Return the spans as a decoder returns them."""
    return columns_of(spans, [resource_of(span.env, span.service, span.host) for span in spans])


def columns_of(spans: Sequence[OneSpan], produced_by: Sequence[Resource]) -> SpanColumns:
    """Return the spans as a decoder returns them, each with the given resource."""
    resources = list(dict.fromkeys(produced_by))
    names = sorted({span.operation for span in spans})
    ends = [span.end_ms * MS for span in spans]
    starts = [end - round(span.latency_ms * MS) for span, end in zip(spans, ends, strict=True)]
    traces = [(span.trace or span.number) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128 for span in spans]
    return SpanColumns(
        resources=tuple(resources),
        names=tuple(names),
        resource=np.array([resources.index(resource) for resource in produced_by], np.int32),
        name=np.array([names.index(span.operation) for span in spans], np.int32),
        start_ns=np.array(starts, np.uint64),
        end_ns=np.array(ends, np.uint64),
        kind=np.array([span.kind for span in spans], np.uint8),
        error=np.array([span.error for span in spans], np.bool_),
        trace_id=_ids([trace.to_bytes(16, "big") for trace in traces], 16),
        span_id=_ids([span.number.to_bytes(8, "big") for span in spans], 8),
        parent_span_id=_ids([span.parent.to_bytes(8, "big") for span in spans], 8),
    )


def resource_of(env: str, service: str, host: str) -> Resource:
    """Return a resource; host-2 has its name only, as in a fleet where only some pods have the newest agent."""
    if host == "host-2":
        return Resource(env, service, host)
    return Resource(env, service, host, site_id="site", version="1.0")


def _ids(values: Sequence[bytes], size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), size).copy()


def fold(sent: Sent, times: TimeLimits = TIMES) -> tuple[FoldedMessage | None, tuple[Rejected, ...]]:
    """Return the result of `operators.ingest.fold` for the decoded message, and the rejected records."""
    result = fold_spans(columns(sent.spans), sent.at, times)
    activity = logs_part([_log(*log) for log in sent.logs], READER, sent.at, FoldConfig(times))
    records = [_record_of(span) for span in sent.spans if span.error or not span.mute]
    logged = logs_part(records, READER, sent.at, FoldConfig(times))
    if result.batch is None and not activity.activity:
        return None, result.rejected
    lines = tuple(merge_log_aggregates((*activity.logs, *logged.logs)))
    return FoldedMessage(
        f"{sent.at.topic}|{sent.partition}", result.batch, activity.activity, "traces", lines
    ), result.rejected


def aggregates(message: FoldedMessage) -> tuple[SpanAggregate, ...]:
    """Return the aggregates that pre-aggregation emits for this message alone."""
    return aggregates_of(common([message.spans]), NameLimits()) if message.spans else ()


def sides(message: FoldedMessage) -> tuple[CallSides, ...]:
    """Return the call sides that pre-aggregation emits for this message alone."""
    return call_sides_of(common([message.spans])) if message.spans else ()


def exception(message: FoldedMessage) -> tuple[ExceptionAggregate, ...]:
    """Return the lines of this message as exceptions of spans, and the minutes in which it has spans."""
    machine = TracePreAggregate(PreAggregateConfig(activity_report_ms=60_000))
    state = machine.on_event(machine.initial(""), message, START_MS).state
    assert state is not None, "waiting aggregates are kept in the state"
    return tuple(out for out in machine.on_timer(state, END_OF_INPUT).outputs if isinstance(out, ExceptionAggregate))


def activity(message: FoldedMessage) -> tuple[EnvActivity, ...]:
    """Return the activity that pre-aggregation emits for this message alone."""
    windows = activity_of([message.spans] if message.spans else [])
    for other in message.activity:
        windows[other.env] = merge_activity((*windows.get(other.env, ()), *other.windows))
    return tuple(EnvActivity(env, merged) for env, merged in sorted(windows.items()))


def effects(message: FoldedMessage) -> Iterator[EffectAggregate]:
    """Yield the effects of the requests in this message: of spans as latency-spike emits them, and of lines."""
    for aggregate in aggregates(message):
        for start_ms, late, table in aggregate.windows:
            yield from () if late else effects_of_spans(aggregate.env, aggregate.service, start_ms, table)
    yield from effects_of_lines(message.logs)


def silence(message: FoldedMessage) -> Iterator[LoggingWindows]:
    """Yield the windows with logs of this message, and `pattern_missing` insights for its severe lines.

    In every other window the service of the insight logs no other line.
    """
    yield from logging_windows(message.logs)
    for sighting in sightings(message):
        if sighting.revision is not None:
            insight = sighting.revision
            silent_s = float(insight.window.start_ms % 20_000)  # not 0 in every other window
            missed = msgspec.structs.replace(
                insight, kind="pattern_missing", measures={"silent_s": silent_s, "counted_s": 10.0}
            )
            yield LoggingWindows(sighting.env, (), insight.window.end_ms, missed)


def sightings(message: FoldedMessage) -> Iterator[LogPatternSighting]:
    """Yield sightings of the severe lines of this message, each without and with an insight about a new error."""
    for aggregate in message.logs:
        for start_ms, late, table in aggregate.windows:
            for counted in (counted for counted in table.patterns if counted.severe and not late):
                episode = PatternEpisode(
                    "error_pattern_new", start_ms, start_ms + WINDOW_MS, counted, table.info, table.ranges, WINDOW_MS
                )
                pattern = (aggregate.env, counted.pattern_id, aggregate.service)
                entry = Registered(counted.texts, start_ms, start_ms, 1)
                insight = report(ServiceKey(aggregate.env, aggregate.service), episode, entry, OPEN, "logs")
                own = insight_id(
                    "error_pattern_new", *pattern[:2], f"{pattern[2]}{table.ranges}", start_ms
                )  # one a message
                insight = msgspec.structs.replace(insight, insight_id=own)
                yield LogPatternSighting(*pattern, start_ms, "logs")
                yield LogPatternSighting(*pattern, start_ms, "logs", counted.count, insight)


def sightings_of_both(message: FoldedMessage) -> Iterator[PatternSighting]:
    """Yield the sightings as sightings of exceptions of spans; every fourth pattern is logged as well."""
    for sighting in sightings(message):
        if int(sighting.pattern_id, 16) % 4 == 0 and sighting.revision is None:
            yield sighting
        pattern = (sighting.env, sighting.pattern_id, sighting.service, sighting.seen_ms)
        yield SpanPatternSighting(*pattern, "spans", sighting.lines, sighting.revision)


def _log(service: str, at_ms: int) -> LogRecord:
    return LogRecord(Resource("prod", service, "host-0"), at_ms * MS, 9, "INFO", "hello", "", (), "", "")


FAULTS: Final = ("connection refused", "no route", "card declined", "stock empty")


def _record_of(span: OneSpan) -> LogRecord:
    """Return the log record of a span; the line of a failing one has names and numbers that vary."""
    if span.error:
        fault = FAULTS[span.number % len(FAULTS)]
        severity, line = (
            17,
            f"order {span.number} of user-{span.number % 7} failed with {fault} on {span.host}.internal",
        )
    else:
        severity, line = 9, f"served {span.operation} in {span.latency_ms:.1f} ms"
    resource = resource_of(span.env, span.service, span.host)
    trace = (span.trace or span.number) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128
    return LogRecord(resource, span.end_ms * MS, severity, "", line, "", (), f"{trace:032x}", "")


def split(sent: Iterable[Sent], spans_max: int) -> Iterator[Sent]:
    """Yield the same spans in messages of at most `spans_max` spans, with new offsets."""
    offsets: dict[int, int] = {}
    for message in sent:
        for first in range(0, len(message.spans), spans_max):
            offset = offsets[message.partition] = offsets.get(message.partition, -1) + 1
            spans, logs = message.spans[first : first + spans_max], message.logs if first == 0 else ()
            yield message._replace(spans=spans, logs=logs, offset=offset)


def displaced(sent: Sequence[Sent], random: Random, by_ms: int) -> list[Sent]:
    """Return the messages in an order in which no message precedes one that was sent more than by_ms earlier."""
    return sorted(sent, key=lambda message: message.timestamp_ms + random.randrange(by_ms))


def without_late(sent: Iterable[Sent]) -> list[Sent]:
    """Return the messages without the spans that are late, with unchanged offsets and all log records."""
    kept = []
    for message in sent:
        oldest_ms = message.timestamp_ms - LATENESS_MS
        spans = tuple(span for span in message.spans if span.end_ms >= oldest_ms)
        if spans or message.logs:
            kept.append(message._replace(spans=spans))
    return kept
