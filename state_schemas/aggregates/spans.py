"""Spans of one service, aggregated: by message when they are sent, by window when they are merged."""

from typing import Final

import msgspec
import numpy as np

from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

DIMENSION_SERVICE: Final = 0

DIMENSION_HOST: Final = 1

DIMENSION_OPERATION: Final = 2

DIMENSIONS: Final = ("service", "host", "operation")  # of every span; those below are of calls, by callee

DIMENSION_CALLEE: Final = 3  # the time that the caller waited: duration of the client span

DIMENSION_NETWORK_TIME: Final = 4  # duration of the client span less the server span: the network and its queues

DIMENSION_AHEAD: Final = 5  # clock skew of a callee whose clock is ahead; a call is in one of these two

DIMENSION_BEHIND: Final = 6  # amount of the clock skew of a callee whose clock is behind

CALL_DIMENSIONS: Final = (DIMENSION_CALLEE, DIMENSION_NETWORK_TIME, DIMENSION_AHEAD, DIMENSION_BEHIND)

# Key of one row of a table: span kind (OTLP enum), dimension, name ("" for the service itself).
RowKey = tuple[int, int, str]


class Exemplar(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """One real span that stands for others."""

    duration_ns: int
    # 32 lower-case hex digits.
    trace_id: str
    host: str
    operation: str


class SpanTable(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Spans of one service in one window: a latency sketch and an error count for each row.

    The arrays are little-endian and are read by `udfs.spans.window`. counts and errors are unsigned integers of 1, 2, 4
    or 8 bytes: the smallest size that holds all of them, because most counts are small and fill most of the state.
    """

    # The n rows, distinct and ascending.
    keys: tuple[RowKey, ...]
    # n counts of spans with status ERROR.
    errors: bytes
    # n uint16: the number of bins of each row, > 0.
    sizes: bytes
    # m uint16, ascending within a row, as in `udfs.stats.duration_histogram`.
    bins: bytes
    # m counts of spans, > 0.
    counts: bytes
    # Of all spans of the table.
    info: ServiceInfo = ServiceInfo()
    # At most 3 entry spans, longest first.
    slowest: tuple[Exemplar, ...] = ()
    # The longest entry span of each of the 5 smallest trace ids. Trace ids are random, so this is a uniform sample of
    # traces that does not depend on the order of merging.
    sampled: tuple[Exemplar, ...] = ()
    # Ascending, one for each partition that contributed.
    ranges: tuple[OffsetRange, ...] = ()
    # (callee, longest client span to it), ascending, for some or all of the callees that have rows.
    calls: tuple[tuple[str, Exemplar], ...] = ()
    # At most 3 entry spans with status ERROR, longest first.
    failing: tuple[Exemplar, ...] = ()
    # (callee, client span with the longest network time), ascending; duration_ns of the exemplar is the network time.
    network_times: tuple[tuple[str, Exemplar], ...] = ()


class SpanBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The n accepted spans of one message, not yet grouped by name.

    spans, groups, exemplars and sides are arrays. Their elements refer to each other and to the names by index.
    """

    at: OffsetRange
    # Kafka timestamp of the message.
    sent_ms: int
    # (env, service).
    services: tuple[tuple[str, str], ...]
    # hosts and operations: ascending and distinct.
    hosts: tuple[str, ...]
    operations: tuple[str, ...]
    # (version, image, container, site_id).
    infos: tuple[tuple[str, str, str, str], ...]
    # Of `SPAN_DTYPE`.
    spans: bytes
    # Of `GROUP_DTYPE`.
    groups: bytes
    # Of `EXEMPLAR_DTYPE`.
    exemplars: bytes
    # Of `CALL_SIDE_DTYPE`.
    sides: bytes


# bin: as in `udfs.stats.duration_histogram`. kind: OTLP's enum. error: 0 or 1.
SPAN_DTYPE: Final = np.dtype(
    [("group", "<u4"), ("host", "<u4"), ("operation", "<u4"), ("bin", "<u2"), ("kind", "u1"), ("error", "u1")]
)

# A service in a window; late spans form a separate group. newest_ms: end of its newest span. info: index of the
# attributes of that span. Where resources of a service differ, further rows without spans (count 0) hold the newest
# span that has each attribute.
GROUP_DTYPE: Final = np.dtype(
    [("start_ms", "<i8"), ("newest_ms", "<i8"), ("count", "<u4"), ("service", "<u4"), ("info", "<u4"), ("late", "<u4")]
)

# high, low: the trace id as two big-endian words. role: 0 for a slowest, 1 for a sampled, 2 for a failing exemplar.
EXEMPLAR_DTYPE: Final = np.dtype(
    [
        *(("duration_ns", "<i8"), ("high", "<u8"), ("low", "<u8")),
        *(("group", "<u4"), ("host", "<u4"), ("operation", "<u4"), ("role", "<u4")),
    ]
)


class SpanAggregate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Spans of one service from some messages."""

    env: str
    service: str
    # (window start in epoch ms, late, table), ascending and distinct.
    windows: tuple[tuple[int, bool, SpanTable], ...]
