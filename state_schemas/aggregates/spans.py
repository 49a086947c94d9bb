"""Spans of one service, aggregated: by message as they travel, by window as they merge."""

from typing import Final

import msgspec
import numpy as np

from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

DIMENSION_SERVICE: Final = 0

DIMENSION_HOST: Final = 1

DIMENSION_OPERATION: Final = 2

DIMENSIONS: Final = ("service", "host", "operation")  # of every span; those below are of calls, by callee

DIMENSION_CALLEE: Final = 3  # how long the caller waited: duration of the client span

DIMENSION_NETWORK_TIME: Final = 4  # of that, what the callee's server span does not cover: the network and its queues

DIMENSION_AHEAD: Final = 5  # how far the callee's clock is ahead of the caller's; a call is in one of these two

DIMENSION_BEHIND: Final = 6  # how far it is behind

CALL_DIMENSIONS: Final = (DIMENSION_CALLEE, DIMENSION_NETWORK_TIME, DIMENSION_AHEAD, DIMENSION_BEHIND)

# One row of a block: span kind (OTLP enum), dimension, name ("" for the service itself).
RowKey = tuple[int, int, str]


class Exemplar(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """One real span that stands for others. trace_id: 32 lower-case hex digits."""

    duration_ns: int
    trace_id: str
    host: str
    operation: str


class SpanTable(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Spans of one service in one window: a latency sketch and an error count for each row.

    keys: the n rows, distinct, ascending. sizes: n uint16, how many bins each row has, > 0. bins: m uint16, ascending
    within a row (as in `udfs.stats.duration_histogram`). counts: m, > 0; errors: n; both as unsigned integers of the
    least of 1, 2, 4 and 8 bytes that holds them all, as most are small and states are full of them. Little-endian,
    read by `udfs.spans.window`.
    slowest: at most 3 entry spans, longest first. sampled: the longest entry span of each of the 5 smallest trace ids
    (trace ids are random, so this is a uniform sample of traces that does not depend on order). failing: at most 3
    entry spans with status ERROR, longest first. facts: of all its spans. ranges: ascending, one for each partition
    that contributed. calls: (callee, longest client span to it), ascending, for some or all of the callees that have
    rows; gaps: likewise the client span with the longest gap, which is its duration here.
    """

    keys: tuple[RowKey, ...]
    errors: bytes
    sizes: bytes
    bins: bytes
    counts: bytes
    info: ServiceInfo = ServiceInfo()
    slowest: tuple[Exemplar, ...] = ()
    sampled: tuple[Exemplar, ...] = ()
    ranges: tuple[OffsetRange, ...] = ()
    calls: tuple[tuple[str, Exemplar], ...] = ()
    failing: tuple[Exemplar, ...] = ()
    network_times: tuple[tuple[str, Exemplar], ...] = ()


class SpanBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The n spans of one message that count, not yet grouped by name. hosts and operations ascend and are distinct.

    services: (env, service). facts: (version, image, container, site_id). spans, groups, exemplars, halves: arrays of
    `SPAN_DTYPE`, `GROUP_DTYPE`, `EXEMPLAR_DTYPE`, `CALL_SIDE_DTYPE`, which refer to each other and to the names by
    place.
    sent_ms: the Kafka timestamp.
    """

    at: OffsetRange
    sent_ms: int
    services: tuple[tuple[str, str], ...]
    hosts: tuple[str, ...]
    operations: tuple[str, ...]
    infos: tuple[tuple[str, str, str, str], ...]
    spans: bytes
    groups: bytes
    exemplars: bytes
    sides: bytes


# bin: as in `udfs.stats.duration_histogram`. kind: OTLP's enum. error: 0 or 1.
SPAN_DTYPE: Final = np.dtype(
    [("group", "<u4"), ("host", "<u4"), ("operation", "<u4"), ("bin", "<u2"), ("kind", "u1"), ("error", "u1")]
)

# A service in a window, late spans apart. newest_ms: end of its newest span, and facts: what that says. Where resources
# of a service differ, further rows without spans (count 0) hold the newest span that has each attribute.
GROUP_DTYPE: Final = np.dtype(
    [("start_ms", "<i8"), ("newest_ms", "<i8"), ("count", "<u4"), ("service", "<u4"), ("info", "<u4"), ("late", "<u4")]
)

# high, low: the trace id as two big-endian words. role: 0 for a slowest, 1 for a sampled, 2 for a failing one.
EXEMPLAR_DTYPE: Final = np.dtype(
    [
        *(("duration_ns", "<i8"), ("high", "<u8"), ("low", "<u8")),
        *(("group", "<u4"), ("host", "<u4"), ("operation", "<u4"), ("role", "<u4")),
    ]
)


class SpanAggregate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Spans of one service from some messages. windows: (window start in epoch ms, late, block), ascending,
    distinct.
    """

    env: str
    service: str
    windows: tuple[tuple[int, bool, SpanTable], ...]
