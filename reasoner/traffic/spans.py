"""Fast generation of many spans: a profile, a seed and a clock in, trace messages out.

Template messages are encoded once; ids and times are then written into copies of them. About 2 M spans/s of one core.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from random import Random
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from reasoner.recordings.message import Message
from reasoner.traffic.otlp import filled, request, resource, span_template

TEMPLATES: Final = 32  # at least; more if needed to include every host of every service
SIGMA: Final = 0.3  # of the logarithm of a duration
SENT_AFTER_MS: Final = 1_000  # a normal span ended at most this long before its message was sent

_TRACE: Final = b"\xa5" * 16
_SPAN: Final = b"\xa6" * 8
_PARENT: Final = b"\xa7" * 8
_START: Final = 0xA8A8A8A8A8A8A8A8
_END: Final = 0xA9A9A9A9A9A9A9A9
_KINDS: Final = (*3 * (Span.SPAN_KIND_SERVER,), Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_INTERNAL)

_Places = NDArray[np.int64]


class SpanTimes(NamedTuple):
    """Times of the spans of one message, which may be changed in place. service: number of the service of each span."""

    timestamp_ms: int
    service: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SpanProfile:
    """Properties of the spans. The defaults are those of the throughput benchmark: about 330 bytes a span."""

    services: int = 50
    hosts: int = 3
    operations: int = 20
    attributes: int = 8
    spans_per_message: int = 1_000
    # ResourceSpans of a message, at least; each is one host of a service.
    resources_min: int = 5
    # ResourceSpans of a message, at most.
    resources_max: int = 40
    # Partitions to which the messages are sent in turn.
    partitions: int = 4
    # Whether operations have the same names in all services.
    shared_names: bool = False
    # Changes the times of each message, for tests.
    alter: Callable[[np.random.Generator, SpanTimes], None] | None = None


def spans(profile: SpanProfile, messages: int, seed: int, start_ms: int, step_ms: int) -> Iterator[Message]:
    """Yield so many messages, sent every step_ms from start_ms on. The same arguments give the same bytes.

    timestamp_ms of message n is start_ms + n * step_ms; its normal spans ended in the second before.
    """
    random = Random(f"spans-{seed}")
    generator = np.random.default_rng(seed)
    hosts = [(service, host) for service in range(profile.services) for host in range(profile.hosts)]
    random.shuffle(hosts)
    turns = cycle(hosts)
    counts = [random.randint(profile.resources_min, profile.resources_max) for _ in range(TEMPLATES)]
    while sum(counts) < len(hosts):
        counts.append(random.randint(profile.resources_min, profile.resources_max))
    templates = [_template(profile, random, [next(turns) for _ in range(count)]) for count in counts]
    for number in range(messages):
        timestamp_ms = start_ms + number * step_ms
        value = templates[number % len(templates)].filled(profile, generator, timestamp_ms)
        yield Message("traces", value, timestamp_ms, number % profile.partitions)


@dataclass(frozen=True, slots=True)
class _Template:
    """An encoded message with the positions of its ids and times. median_ns, service: of each span."""

    data: NDArray[np.uint8]
    trace_at: _Places
    span_at: _Places
    start_at: _Places
    end_at: _Places
    median_ns: NDArray[np.float64]
    service: NDArray[np.int64]

    def filled(self, profile: SpanProfile, generator: np.random.Generator, timestamp_ms: int) -> bytes:
        """Return a copy with new ids, and with times that fit its timestamp."""
        count = len(self.start_at)
        duration_ns = self.median_ns * np.exp(SIGMA * generator.standard_normal(count))
        end_ns = timestamp_ms * 1_000_000 - generator.integers(0, SENT_AFTER_MS * 1_000_000, count)
        times = SpanTimes(timestamp_ms, self.service, end_ns - duration_ns.astype(np.int64), end_ns)
        if profile.alter is not None:
            profile.alter(generator, times)
        data = self.data.copy()
        ids = np.frombuffer(generator.bytes(24 * count), np.uint8)
        _write(data, self.trace_at, ids[: 16 * count].reshape(count, 16))
        _write(data, self.span_at, ids[16 * count :].reshape(count, 8))
        _write(data, self.start_at, times.start_ns.astype("<i8").view(np.uint8).reshape(count, 8))
        _write(data, self.end_at, times.end_ns.astype("<i8").view(np.uint8).reshape(count, 8))
        return data.tobytes()


def _write(data: NDArray[np.uint8], places: _Places, values: NDArray[np.uint8]) -> None:
    data[places[:, None] + np.arange(values.shape[1])] = values


def _template(profile: SpanProfile, random: Random, hosts: list[tuple[int, int]]) -> _Template:
    """Build a template. hosts: (service, number of its host) of each resource."""
    count = len(hosts)
    records = []
    medians: list[float] = []
    service_of: list[int] = []
    for index, (service, host) in enumerate(hosts):
        share = profile.spans_per_message * (index + 1) // count - profile.spans_per_message * index // count
        operations = [random.randrange(profile.operations) for _ in range(share)]
        made = [
            filled(_span_template(profile, service, number), _TRACE, (_PARENT, _SPAN), _START, _END)
            for number in operations
        ]
        records.append((resource(f"service-{service:03d}", f"host-{service:03d}-{host}"), made))
        medians += [median_ns(service, number) for number in operations]
        service_of += [service] * share
    data = request("traces", records)
    return _Template(
        data=np.frombuffer(data, np.uint8),
        trace_at=_places(data, _TRACE),
        span_at=_places(data, _SPAN),
        start_at=_places(data, _START.to_bytes(8, "little")),
        end_at=_places(data, _END.to_bytes(8, "little")),
        median_ns=np.array(medians),
        service=np.array(service_of),
    )


def _places(data: bytes, mark: bytes) -> _Places:
    found = []
    place = data.find(mark)
    while place >= 0:
        found.append(place)
        place = data.find(mark, place + len(mark))
    return np.array(found, np.int64)


@lru_cache(maxsize=4_096)
def _span_template(profile: SpanProfile, service: int, operation: int) -> Span:
    values: dict[str, str | int] = {f"app.attr.{n}": f"value-{service:03d}-{n}" for n in range(profile.attributes)}
    kind = _KINDS[operation % len(_KINDS)]
    # Every 50th operation always fails: a constant share of errors must not be reported.
    failed = (service * profile.operations + operation) % 50 == 49
    name = f"operation-{operation}" if profile.shared_names else f"GET /service/{service}/operation/{operation}"
    return span_template(name, kind, values, failed=failed)


def median_ns(service: int, operation: int) -> float:
    """Return a median of 5 to 104 ms."""
    return (5 + (service * 31 + operation * 7) % 100) * 1e6
