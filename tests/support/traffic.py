"""Telemetry of a small fleet for tests: a `Story` goes in, the Kafka messages that tell it come out.

A story is a few numbers, so hypothesis shrinks it well; the spans follow from its seed. One pane holds about `rate`
spans a service. Batches leave every 5 s, so a record is up to `AGE_MS_MAX` old when it is sent.
"""

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Final, NamedTuple

import msgspec
import numpy as np

from operators.ingest.fold import FoldConfig, logs_part
from operators.ingest.pre_aggregate import PreMerge, PreMergeConfig
from operators.machine import END_OF_INPUT
from state_schemas.aggregates.activity import EnvPresence
from state_schemas.aggregates.calls import CallHalves
from state_schemas.aggregates.log_silence import LogsHeard
from state_schemas.aggregates.logs import ExceptionPartial
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.novelty import PatternHeard, SourcePatternHeard, SpanPatternHeard
from state_schemas.aggregates.requests import ShapePartial
from state_schemas.aggregates.spans import SpanPartial
from state_schemas.contracts.dead_letter import Rejected
from state_schemas.contracts.insight import InsightRevision, from_json, to_json
from state_schemas.state.log_patterns import PatternEpisode, Registered
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import KIND_CLIENT, KIND_SERVER, SpanColumns
from tests.support.stories import Story
from udfs.activity import merge_presence
from udfs.detect.log_patterns.report import report
from udfs.detect.requests.counts import logs_heard, shapes_of_lines, shapes_of_spans
from udfs.event_time import TimeLimits
from udfs.insights.ids import insight_id
from udfs.logs.reader import LineReader
from udfs.logs.window import merge_log_partials
from udfs.spans.grouping import common, halves_of, partials_of, presence_of
from udfs.spans.message import fold_spans
from udfs.spans.window import NameLimits

NOON_MS: Final = 1_700_049_600_000
START_MS: Final = 1_700_000_100_000  # 22:15:00 UTC, the start of a five minute window
PANE_MS: Final = 10_000
BATCH_MS: Final = 5_000
AGE_MS_MAX: Final = 10_000
LATENESS_MS: Final = 30_000  # short, so that stories of a few minutes have final panes
OUT_OF_ORDER_MS: Final = 5_000
TIMES: Final = TimeLimits(lateness_ms=LATENESS_MS)
MS: Final = 1_000_000
READER: Final = LineReader()


class OneSpan(NamedTuple):
    """What a test says of a span; ids follow from `number`, which is never used twice in a story."""

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
    mute: bool = False  # no line is logged of it


class Sent(NamedTuple):
    """A Kafka message before it is folded. logs: (service, event time in ms) of log records that travel beside."""

    timestamp_ms: int
    spans: tuple[OneSpan, ...]
    partition: int
    offset: int
    logs: tuple[tuple[str, int], ...] = ()

    @property
    def at(self) -> KafkaPosition:
        return KafkaPosition("trace_events", self.partition, self.offset, self.timestamp_ms)


def messages(story: Story) -> list[Sent]:
    """The story as it is told in order of sending. Half of the services report to each of two partitions."""
    random = Random(story.seed)
    sent: list[Sent] = []
    offsets = [0, 0]
    numbers = iter(range(1, 1 << 40))
    for batch in range(story.panes * PANE_MS // BATCH_MS):
        timestamp_ms = START_MS + (batch + 1) * BATCH_MS
        for service in range(story.services):
            spans = tuple(_batch(story, service, batch, random, numbers))
            if spans:
                partition = service % 2
                logs = ((spans[0].service, timestamp_ms - 1),) if story.logs and batch % 2 else ()
                sent.append(Sent(timestamp_ms, spans, partition, offsets[partition], logs))
                offsets[partition] += 1
    return _with_calls(sent, random) if story.calls else sent


CALL_GAP_MS: Final = 3
CLIENT_NUMBERS: Final = 1 << 41  # a client span's number beyond that of the server span under it


def _with_calls(sent: list[Sent], random: Random) -> list[Sent]:
    """Server spans get client spans of service-0 over them, in its message of that time where there is one."""
    homes = {
        message.timestamp_ms: place for place, message in enumerate(sent) if message.spans[0].service == "service-0"
    }
    told = [list(message.spans) for message in sent]
    for message, spans in zip(sent, told, strict=True):
        home = homes.get(message.timestamp_ms)
        if home is None or spans is told[home]:
            continue
        for place, span in enumerate(spans):
            if span.kind == KIND_SERVER and random.random() < 0.8:
                number = CLIENT_NUMBERS + span.number
                spans[place] = span._replace(parent=number)
                call = span._replace(service="service-0", host="host-0", operation="call", kind=KIND_CLIENT)
                times = (span.end_ms - 1, span.latency_ms + CALL_GAP_MS)
                told[home].append(call._replace(number=number, end_ms=times[0], latency_ms=times[1]))
    return [message._replace(spans=tuple(spans)) for message, spans in zip(sent, told, strict=True)]


def _batch(story: Story, service: int, batch: int, random: Random, numbers: Iterator[int]) -> Iterator[OneSpan]:
    first_ms = START_MS + batch * BATCH_MS
    pane = batch * BATCH_MS // PANE_MS
    if any(hole.covers(service, pane) for hole in story.holes):
        return
    factor = max((e.value for e in story.slow if e.covers(service, pane)), default=1.0)
    failing = max((e.value for e in story.failing if e.covers(service, pane)), default=0.01)
    muted = max((e.value for e in story.mute if e.covers(service, pane)), default=0.0)
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
    """The spans as a decoder gives them."""
    return columns_of(spans, [resource_of(span.env, span.service, span.host) for span in spans])


def columns_of(spans: Sequence[OneSpan], produced_by: Sequence[Resource]) -> SpanColumns:
    """Likewise, each span from a resource of its own choice."""
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
    """One host of three gives its name and nothing else, as where only some pods have the newest agent."""
    if host == "host-2":
        return Resource(env, service, host)
    return Resource(env, service, host, site_id="site", version="1.0")


def _ids(values: Sequence[bytes], size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), size).copy()


def fold(sent: Sent, times: TimeLimits = TIMES) -> tuple[FoldedMessage | None, tuple[Rejected, ...]]:
    """What `operators.ingest.fold` makes of the message once its bytes are decoded."""
    result = fold_spans(columns(sent.spans), sent.at, times)
    heard = logs_part([_log(*log) for log in sent.logs], READER, sent.at, FoldConfig(times))
    told = [_said(span) for span in sent.spans if span.error or not span.mute]
    said = logs_part(told, READER, sent.at, FoldConfig(times))
    if result.batch is None and not heard.presence:
        return None, result.rejected
    lines = tuple(merge_log_partials((*heard.logs, *said.logs)))
    return FoldedMessage(
        f"{sent.at.topic}|{sent.partition}", result.batch, heard.presence, "traces", lines
    ), result.rejected


def partials(message: FoldedMessage) -> tuple[SpanPartial, ...]:
    """What pre-merge would put out for this message alone."""
    return partials_of(common([message.spans]), NameLimits()) if message.spans else ()


def halves(message: FoldedMessage) -> tuple[CallHalves, ...]:
    """Likewise, halves of calls."""
    return halves_of(common([message.spans])) if message.spans else ()


def thrown(message: FoldedMessage) -> tuple[ExceptionPartial, ...]:
    """Likewise, its lines as exceptions of spans, and in which minutes there were spans."""
    machine = PreMerge(PreMergeConfig(spans_heard_ms=60_000), ExceptionPartial)
    state = machine.on_event(machine.initial(""), message, START_MS).state
    assert state is not None, "what waits is kept"
    return tuple(out for out in machine.on_wake(state, END_OF_INPUT).outputs if isinstance(out, ExceptionPartial))


def heard(message: FoldedMessage) -> tuple[EnvPresence, ...]:
    """Likewise, who was heard in it."""
    panes = presence_of([message.spans] if message.spans else [])
    for presence in message.presence:
        panes[presence.env] = merge_presence((*panes.get(presence.env, ()), *presence.panes))
    return tuple(EnvPresence(env, found) for env, found in sorted(panes.items()))


def shapes(message: FoldedMessage) -> Iterator[ShapePartial]:
    """Likewise, what is done for requests; of spans as latency-spike would."""
    for partial in partials(message):
        for start_ms, late, block in partial.panes:
            yield from () if late else shapes_of_spans(partial.env, partial.service, start_ms, block)
    yield from shapes_of_lines(message.logs)


def silence(message: FoldedMessage) -> Iterator[LogsHeard]:
    """Likewise, that somebody logged; and of loud lines, as if they were missed, with or without others."""
    yield from logs_heard(message.logs)
    for heard in news(message):
        if heard.revision is not None:
            insight = from_json(heard.revision.body)
            silent_s = float(insight.window.start_ms % 20_000)  # of every other pane: it logs nothing else
            missed = insight.model_copy(
                update={"kind": "pattern_missing", "measures": {"silent_s": silent_s, "counted_s": 10.0}}
            )
            body = msgspec.structs.replace(heard.revision, body=to_json(missed))
            yield LogsHeard(heard.env, (), insight.window.end_ms, body)


def news(message: FoldedMessage) -> Iterator[PatternHeard]:
    """What error-patterns might say of the loud lines of this message: they are logged, and some are new."""
    for partial in message.logs:
        for start_ms, late, block in partial.panes:
            for counted in (counted for counted in block.patterns if counted.loud and not late):
                episode = PatternEpisode(
                    "error_pattern_new", start_ms, start_ms + PANE_MS, counted, block.facts, block.ranges, PANE_MS
                )
                who = (partial.env, counted.pattern_id, partial.service)
                entry = Registered(counted.texts, start_ms, start_ms, 1)
                told = report(partial.env, partial.service, episode, entry, "open")
                own = insight_id("error_pattern_new", *who, start_ms, f"{block.ranges}")  # one of each message
                told = told.model_copy(update={"insight_id": own})
                yield PatternHeard(*who, start_ms, "logs")
                revision = InsightRevision(partial.env, partial.service, told.insight_id, 0, to_json(told))
                yield PatternHeard(*who, start_ms, "logs", counted.count, revision)


def news_of_both(message: FoldedMessage) -> Iterator[SourcePatternHeard]:
    """The same said of exceptions of spans; every fourth pattern is logged as well."""
    for heard in news(message):
        if int(heard.pattern_id, 16) % 4 == 0 and heard.revision is None:
            yield heard
        who = (heard.env, heard.pattern_id, heard.service, heard.seen_ms)
        yield SpanPatternHeard(*who, "spans", heard.lines, heard.revision)


def _log(service: str, at_ms: int) -> LogRecord:
    return LogRecord(Resource("prod", service, "host-0"), at_ms * MS, 9, "INFO", "hello", "", (), "", "")


FAULTS: Final = ("connection refused", "no route", "card declined", "stock empty")


def _said(span: OneSpan) -> LogRecord:
    """What a service logs of a span; of failing ones with names and numbers that vary."""
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
    """The same spans in messages of at most `spans_max`, with offsets of their own."""
    offsets: dict[int, int] = {}
    for message in sent:
        for first in range(0, len(message.spans), spans_max):
            offset = offsets[message.partition] = offsets.get(message.partition, -1) + 1
            spans, logs = message.spans[first : first + spans_max], message.logs if first == 0 else ()
            yield message._replace(spans=spans, logs=logs, offset=offset)


def displaced(sent: Sequence[Sent], random: Random, by_ms: int) -> list[Sent]:
    """The messages in an order in which none is overtaken by one sent more than by_ms later."""
    return sorted(sent, key=lambda message: message.timestamp_ms + random.randrange(by_ms))


def without_late(sent: Iterable[Sent]) -> list[Sent]:
    """The messages as they would be without the spans that are late, at their own offsets, with all log records."""
    kept = []
    for message in sent:
        oldest_ms = message.timestamp_ms - LATENESS_MS
        spans = tuple(span for span in message.spans if span.end_ms >= oldest_ms)
        if spans or message.logs:
            kept.append(message._replace(spans=spans))
    return kept
