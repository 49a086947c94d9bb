"""Mergeable summaries of spans: what a fold makes of a message and what every window is the sum of.

All numbers are integers, so merging is exact, associative and commutative (`udfs.partials.merge_blocks`).
"""

from typing import Final, Literal

import msgspec

DIMENSION_SERVICE: Final = 0
DIMENSION_HOST: Final = 1
DIMENSION_OPERATION: Final = 2
DIMENSIONS: Final = ("service", "host", "operation")

OTHER: Final = "other"  # hosts, operations and services beyond their bound

# One row of a block: span kind (OTLP enum), dimension, name ("" for the service itself).
RowKey = tuple[int, int, str]


class Exemplar(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """One real span that stands for others. trace_id: 32 lower-case hex digits."""

    duration_ns: int
    trace_id: str
    host: str
    operation: str


class OffsetRange(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Kafka messages first_offset..last_offset of a partition, both included; others may lie between."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class ServiceFacts(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """What the newest telemetry says of a service. Merging takes the maximum: the newest, ties by value."""

    at_ms: int = 0
    version: str = ""
    image: str = ""
    container: str = ""
    site_id: str = ""


class SpanBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Spans of one service in one window: a latency sketch and an error count for each row.

    keys: the n rows, distinct, ascending. errors: n int64. bins: m uint32 `row << 11 | bin`, distinct, ascending
    (bins as in `udfs.sketch`). counts: m int64, > 0. Arrays are little-endian bytes, read by `numpy.frombuffer`.
    slowest: at most 3 entry spans, longest first. sampled: the longest entry span of each of the 5 smallest trace ids
    (trace ids are random, so this is a uniform sample of traces that does not depend on order).
    facts: of the newest span. ranges: ascending, one for each partition that contributed.
    """

    keys: tuple[RowKey, ...]
    errors: bytes
    bins: bytes
    counts: bytes
    facts: ServiceFacts = ServiceFacts()
    slowest: tuple[Exemplar, ...] = ()
    sampled: tuple[Exemplar, ...] = ()
    ranges: tuple[OffsetRange, ...] = ()


class SpanPartial(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Spans of one service from some messages. panes: (pane start in epoch ms, late, block), ascending, distinct."""

    env: str
    service: str
    panes: tuple[tuple[int, bool, SpanBlock], ...]


class Presence(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Records of one signal type of one service."""

    signal: str
    service: str
    records: int


class PresencePane(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Who was heard in one pane, ascending and distinct by (signal, service), and which offsets said so."""

    start_ms: int
    seen: tuple[Presence, ...]
    ranges: tuple[OffsetRange, ...]


class EnvPresence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who was heard in an environment. panes: ascending, distinct by start."""

    env: str
    panes: tuple[PresencePane, ...]


class NameOverflow(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """In this pane, names beyond `names_max` were counted under `other`. example: the first by alphabet.

    subject: the attribute whose names were too many; of environments, env is `other`.
    """

    env: str
    start_ms: int
    names_max: int
    example: str
    ranges: tuple[OffsetRange, ...] = ()
    subject: Literal["service.name", "deployment.environment.name"] = "service.name"


class FoldedMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a fold makes of one Kafka message. key: `topic|partition`, the key of the pre-merge."""

    key: str
    partials: tuple[SpanPartial, ...]
    presence: tuple[EnvPresence, ...]
