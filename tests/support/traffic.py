"""Telemetry of a small fleet for tests: Kafka messages that follow from a `Story`.

A story is a few numbers, so Hypothesis shrinks it well; its seed determines the spans. One window holds about `rate`
spans of a service. Batches are sent every 5 s, so a record is up to `AGE_MS_MAX` old when it is sent.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as OtlpResource
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from operators.ingest.fold import FOLDS, FoldConfig, Folded
from operators.ingest.name_admission import PreAggregateConfig
from operators.ingest.pre_aggregate import LogPreAggregate, PreAggregate, TracePreAggregate
from operators.machine import END_OF_INPUT
from state_schemas.aggregates.calls import CallSides
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.logs import LogAggregate
from state_schemas.aggregates.novelty import LogPatternSighting, PatternSighting, SpanPatternSighting
from state_schemas.aggregates.requests import EffectAggregate
from state_schemas.aggregates.spans import SpanAggregate
from state_schemas.state.log_patterns import PatternEpisode, Registered
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.signals import SignalType
from state_schemas.telemetry.spans import KIND_CLIENT, KIND_SERVER, SpanColumns
from tests.support.stories import Story
from udfs.detect.lifecycle import OPEN
from udfs.detect.log_patterns.report import report
from udfs.detect.requests.counts import effects_of_spans
from udfs.detect.service_window import ServiceKey
from udfs.event_time import TimeLimits
from udfs.insights.ids import insight_id
from udfs.logs.reader import LineReader

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
TRACE_STEP: Final = 0x9E3779B97F4A7C15F39CC0605CEDC835  # spreads the numbers of traces over their ids


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
    version: str = "1.0"


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
    deploys = [e for e in story.deploys if e.covers(service, window)]
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
            version=str(max((e.value for e in deploys if window - e.first >= host), default=1.0)),
        )


def columns(spans: Sequence[OneSpan]) -> SpanColumns:
    """Return the spans as a decoder returns them."""
    return columns_of(spans, [resource_of(span) for span in spans])


def columns_of(spans: Sequence[OneSpan], produced_by: Sequence[Resource]) -> SpanColumns:
    """Return the spans as a decoder returns them, each with the given resource."""
    resources = list(dict.fromkeys(produced_by))
    names = sorted({span.operation for span in spans})
    ends = [span.end_ms * MS for span in spans]
    starts = [end - round(span.latency_ms * MS) for span, end in zip(spans, ends, strict=True)]
    traces = [(span.trace or span.number) * TRACE_STEP % 2**128 for span in spans]
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


def resource_of(span: OneSpan) -> Resource:
    """Return the resource of a span; host-2 has its name only, as where only some pods have the newest agent."""
    if span.host == "host-2":
        return Resource(span.env, span.service, span.host)
    return Resource(span.env, span.service, span.host, site_id="site", version=span.version)


def _ids(values: Sequence[bytes], size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), size).copy()


# The laws run one story through many machines and in several orders, and folding takes most of their time.
@lru_cache(maxsize=4_096)
def fold(sent: Sent, signal: SignalType = "traces") -> Folded:
    """Fold the spans of a message, or its log records, from the bytes that a Collector sends.

    A span that fails records an exception with the text of its log record.
    """
    if signal == "traces":
        return _FOLDS[signal].fold(request_of_spans(sent.spans), sent.at)
    records = [_log(*log) for log in sent.logs]
    records += [_record_of(span) for span in sent.spans if span.error or not span.mute]
    at = KafkaPosition("logs_raw", sent.partition, sent.offset, sent.timestamp_ms)
    return _FOLDS[signal].fold(request_of_logs(records), at)


_FOLDS: Final = {signal: fold(FoldConfig(TIMES)) for signal, fold in FOLDS.items()}


def request_of_spans(spans: Sequence[OneSpan]) -> bytes:
    request = ExportTraceServiceRequest()
    groups: dict[Resource, Any] = {}
    for span in spans:
        resource = resource_of(span)
        if resource not in groups:
            groups[resource] = request.resource_spans.add(resource=_attributes_of(resource)).scope_spans.add().spans
        trace = (span.trace or span.number) * TRACE_STEP % 2**128
        sent = groups[resource].add(
            trace_id=trace.to_bytes(16, "big"),
            span_id=span.number.to_bytes(8, "big"),
            parent_span_id=span.parent.to_bytes(8, "big"),
            name=span.operation,
            kind=span.kind,
            start_time_unix_nano=span.end_ms * MS - round(span.latency_ms * MS),
            end_time_unix_nano=span.end_ms * MS,
        )
        if span.error:
            sent.status.code = Status.STATUS_CODE_ERROR
            text = sent.events.add(name="exception").attributes.add(key="exception.message")
            text.value.string_value = _record_of(span).body
    return bytes(request.SerializeToString())


def request_of_logs(records: Sequence[LogRecord]) -> bytes:
    request, groups = ExportLogsServiceRequest(), dict[Resource, Any]()
    for record in records:
        if record.resource not in groups:
            group = request.resource_logs.add(resource=_attributes_of(record.resource))
            groups[record.resource] = group.scope_logs.add().log_records
        sent = groups[record.resource].add(
            time_unix_nano=record.time_ns,
            severity_number=record.severity_number,
            trace_id=bytes.fromhex(record.trace_id),
        )
        sent.body.string_value = record.body
        for name, value in record.attributes:
            sent.attributes.add(key=name).value.string_value = value
    return bytes(request.SerializeToString())


_ATTRIBUTES: Final = {
    "deployment.environment.name": "env",
    "service.name": "service",
    "host.name": "host",
    "site.id": "site_id",
    "service.version": "version",
    "container.image.name": "image",
    "container.name": "container",
}


@lru_cache(maxsize=4_096)
def _attributes_of(resource: Resource) -> OtlpResource:
    found = OtlpResource()
    for key, name in _ATTRIBUTES.items():
        if value := getattr(resource, name):
            found.attributes.add(key=key).value.string_value = value
    return found


@lru_cache(maxsize=4_096)
def pre_aggregated(sent: Sent, signal: SignalType = "traces") -> tuple[Any, ...]:
    """Return the outputs of pre-aggregation for this message alone."""
    message = fold(sent, signal).message
    if message is None:
        return ()
    config = PreAggregateConfig(activity_report_ms=60_000)
    machine: PreAggregate[Any] = TracePreAggregate(config) if signal == "traces" else LogPreAggregate(config)
    state = machine.on_event(machine.initial(""), message, START_MS).state
    assert state is not None, "waiting aggregates are kept in the state"
    return machine.on_timer(state, END_OF_INPUT).outputs


def aggregates(sent: Sent) -> tuple[SpanAggregate, ...]:
    """Return the aggregates of the spans of this message."""
    return tuple(output for output in pre_aggregated(sent) if isinstance(output, SpanAggregate))


def sides(sent: Sent) -> tuple[CallSides, ...]:
    """Return the call sides of this message."""
    return tuple(output for output in pre_aggregated(sent) if isinstance(output, CallSides))


def effects(sent: Sent) -> Iterator[EffectAggregate]:
    """Yield the effects of the requests in this message: of spans as latency-spike emits them, and of lines."""
    for aggregate in aggregates(sent):
        for start_ms, late, table in aggregate.windows:
            yield from () if late else effects_of_spans(aggregate.env, aggregate.service, start_ms, table)
    yield from (output for output in pre_aggregated(sent, "logs") if isinstance(output, EffectAggregate))


def silence(sent: Sent) -> Iterator[LoggingWindows]:
    """Yield the windows with logs of this message, and `pattern_missing` insights for its severe lines.

    In every other window the service of the insight logs no other line.
    """
    yield from (output for output in pre_aggregated(sent, "logs") if isinstance(output, LoggingWindows))
    for sighting in sightings(sent):
        if sighting.revision is not None:
            insight = sighting.revision
            silent_s = float(insight.window.start_ms % 20_000)  # not 0 in every other window
            missed = msgspec.structs.replace(
                insight, kind="pattern_missing", measures={"silent_s": silent_s, "counted_s": 10.0}
            )
            yield LoggingWindows(sighting.env, revision=missed)


def sightings(sent: Sent) -> Iterator[LogPatternSighting]:
    """Yield sightings of the severe lines of this message, each without and with an insight about a new error."""
    for aggregate in (output for output in pre_aggregated(sent, "logs") if isinstance(output, LogAggregate)):
        for start_ms, late, table in aggregate.windows:
            for counted in (counted for counted in table.patterns if counted.severe and not late):
                episode = PatternEpisode(
                    *("error_pattern_new", counted, table.info, table.ranges, WINDOW_MS),
                    start_ms=start_ms,
                    end_ms=start_ms + WINDOW_MS,
                )
                pattern = (aggregate.env, counted.pattern_id, aggregate.service)
                entry = Registered(counted.texts, start_ms, start_ms, 1)
                insight = report(ServiceKey(aggregate.env, aggregate.service), episode, entry, OPEN, "logs")
                subject = f"{aggregate.service}{table.ranges}"  # one insight a message
                own = insight_id("error_pattern_new", *pattern[:2], subject, start_ms)
                insight = msgspec.structs.replace(insight, insight_id=own)
                yield LogPatternSighting(*pattern, start_ms, "logs")
                yield LogPatternSighting(*pattern, start_ms, "logs", insight)


def sightings_of_both(sent: Sent) -> Iterator[PatternSighting]:
    """Yield the sightings as sightings of exceptions of spans; every fourth pattern is logged as well."""
    for sighting in sightings(sent):
        if int(sighting.pattern_id, 16) % 4 == 0 and sighting.revision is None:
            yield sighting
        pattern = (sighting.env, sighting.pattern_id, sighting.service, sighting.seen_ms)
        yield SpanPatternSighting(*pattern, "spans", sighting.revision)


def _log(service: str, at_ms: int) -> LogRecord:
    return LogRecord(Resource("prod", service, "host-0"), at_ms * MS, 9, "INFO", "hello", "", (), "")


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
    resource = resource_of(span)
    trace = (span.trace or span.number) * TRACE_STEP % 2**128
    return LogRecord(resource, span.end_ms * MS, severity, "", line, "", (), f"{trace:032x}")


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
