"""Recordings made harder for tests: shuffled, late, spread over partitions. Seeded and pure.

*Late* is a property of a record and of its message: event time < Kafka timestamp of the message - lateness. So each
function here states its effect on both. In the order `make_late`, `rechunk`, `shuffle_within`, `spread` each keeps its
promise: a later step does not change which records are late. If the timestamps of the input never fall, those of the
result do not either, as in a partition of a broker.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from reasoner.recordings import otlp_json
from reasoner.recordings.message import Message
from reasoner.recordings.read import times_ns
from udfs.otlp.decoder import SpanDecoder


@dataclass(frozen=True, slots=True)
class Lateness:
    """Result of `make_late`: spans in total, spans moved within lateness, spans moved beyond it."""

    spans: int
    late: int
    too_late: int


def shuffle_within(messages: Iterable[Message], lateness_ms: int, seed: int) -> list[Message]:
    """Delay each message by a random time, by which its Kafka timestamp grows too.

    The delay is uniform in 0..lateness_ms minus the age of the message's oldest record that was not late, so that no
    record becomes late, not even by 1 ms; records that were late stay late. The result is in the order of the new
    timestamps (ties: the old order), so timestamps grow while event times go back and forth by up to lateness_ms.
    Values are unchanged. A record that is further ahead of its message than the job allows may come within that bound.
    Raises ValueError for lateness_ms < 0. Keeps the whole recording in memory.
    """
    if lateness_ms < 0:
        message_text = f"lateness_ms is {lateness_ms}, expected 0 or more"
        raise ValueError(message_text)
    random = Random(f"shuffle-{seed}")
    delayed = []
    for message in messages:
        room_ms = lateness_ms - _age_ms(message, lateness_ms)
        delay_ms = random.randint(0, room_ms)
        delayed.append(replace(message, timestamp_ms=message.timestamp_ms + delay_ms))
    return sorted(delayed, key=lambda message: message.timestamp_ms)


def _age_ms(message: Message, lateness_ms: int) -> int:
    """Return the age of the oldest record that is not late, 0..lateness_ms, rounded up to whole ms."""
    times = filter(None, times_ns(message.topic_kind, message.value, SpanDecoder()))
    ages = (message.timestamp_ms - time // 1_000_000 for time in times)
    return max((age for age in ages if 0 <= age <= lateness_ms), default=0)


def spread(messages: Iterable[Message], partitions: int, seed: int) -> Iterator[Message]:
    """Assign each message to a random partition in 0..partitions - 1. Order, timestamps and values stay. Lazy."""
    random = Random(f"spread-{seed}")
    for message in messages:
        yield replace(message, partition=random.randrange(partitions))


def make_late(
    messages: Sequence[Message],
    *,
    share_late: float,
    share_too_late: float,
    lateness_ms: int,
    age_ms_max: int,
    seed: int,
) -> tuple[list[Message], Lateness]:
    """Move random spans into later messages of traces, as an agent that buffers would send them.

    share_late of all spans move into a message sent up to lateness_ms after their event time (their end): delayed, but
    not late by the job's definition. share_too_late of all spans move into a message sent more than lateness_ms and at
    most age_ms_max after it. The later message is random within those bounds; if the recording has none for a span
    (near its end, before a gap) another span is taken, and if there are too few, fewer are moved: the returned Lateness
    has the numbers. Nothing else changes: every span is there once, no timestamp changes, a moved span keeps its
    resource and scope, messages that would be empty are dropped. Values of traces become protobuf. messages must be in
    order of timestamps, else ValueError. Keeps the whole recording in memory.
    """
    times_ms = [message.timestamp_ms for message in messages if message.topic_kind == "traces"]
    if any(later < earlier for earlier, later in pairwise(times_ms)):
        message_text = "timestamps of traces fall, expected ascending order; shuffle after making spans late"
        raise ValueError(message_text)
    requests = [_traces(message) for message in messages if message.topic_kind == "traces"]
    moves, result = _plan_moves(requests, times_ms, (share_late, share_too_late), (lateness_ms, age_ms_max), seed)
    moved = iter(_move(requests, moves))
    reshaped = []
    for message in messages:
        if message.topic_kind != "traces":
            reshaped.append(message)
        elif (request := next(moved)).resource_spans:
            reshaped.append(replace(message, value=request.SerializeToString()))
    return reshaped, result


def _traces(message: Message) -> ExportTraceServiceRequest:
    request = otlp_json.parse("traces", message.value)
    assert isinstance(request, ExportTraceServiceRequest), "a message of traces is parsed as traces"
    return request


def _plan_moves(
    requests: Sequence[ExportTraceServiceRequest],
    times_ms: Sequence[int],
    shares: tuple[float, float],
    bounds_ms: tuple[int, int],
    seed: int,
) -> tuple[dict[int, int], Lateness]:
    """Return (index of a span in order of appearance -> index of the message into which it moves, the result)."""
    spans = [
        (place, span.end_time_unix_nano // 1_000_000)
        for place, request in enumerate(requests)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    random = Random(f"late-{seed}")
    candidates = random.sample(range(len(spans)), len(spans))
    moves: dict[int, int] = {}

    def move(share: float, age_ms_min: int, age_ms_max: int) -> int:
        wanted = len(moves) + round(share * len(spans))
        before = len(moves)
        for number in candidates:
            if len(moves) == wanted:
                break
            place, event_ms = spans[number]
            first = max(place + 1, bisect_left(times_ms, event_ms + age_ms_min))
            last = bisect_right(times_ms, event_ms + age_ms_max) - 1
            if number not in moves and first <= last:
                moves[number] = random.randint(first, last)
        return len(moves) - before

    lateness_ms, age_ms_max = bounds_ms
    # Spans that become too late are moved first: fewer messages are suitable for them.
    too_late = move(shares[1], lateness_ms + 1, age_ms_max)
    late = move(shares[0], 0, lateness_ms)
    return moves, Lateness(len(spans), late, too_late)


def _move(
    requests: Sequence[ExportTraceServiceRequest], moves: Mapping[int, int]
) -> Iterator[ExportTraceServiceRequest]:
    """Yield the requests after the moves, in order; spans only move forward, so one pass is enough."""
    arriving: defaultdict[int, list[ResourceSpans]] = defaultdict(list)
    number = 0
    for place, request in enumerate(requests):
        rest = ExportTraceServiceRequest()
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                staying = []
                for span in scope.spans:
                    target = moves.get(number)
                    if target is None:
                        staying.append(span)
                    else:
                        arriving[target].append(_resource_of(resource, scope, [span]))
                    number += 1
                if staying:
                    rest.resource_spans.append(_resource_of(resource, scope, staying))
        rest.resource_spans.extend(arriving.pop(place, ()))
        yield rest


def _resource_of(resource: ResourceSpans, scope: ScopeSpans, spans: Sequence[Span]) -> ResourceSpans:
    part = ScopeSpans(scope=scope.scope, spans=spans, schema_url=scope.schema_url)
    return ResourceSpans(resource=resource.resource, scope_spans=[part], schema_url=resource.schema_url)
