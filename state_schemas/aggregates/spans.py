"""Spans of one service, aggregated: by message when they are sent, by window when they are merged."""

from enum import IntEnum
from typing import Final

import msgspec
import numpy as np

from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo


class Dimension(IntEnum):
    """The service itself, or the names by which its spans are counted. The values are stored and order the rows."""

    SERVICE = 0
    HOST = 1
    OPERATION = 2
    # The dimensions below are of calls, by callee. CALLEE: duration of the client span, the time that the caller waits.
    CALLEE = 3
    # Duration of the client span less that of the server span: the network and its queues.
    NETWORK_TIME = 4
    # Amount of the clock skew of a callee whose clock is ahead, or behind; a call is in one of these two.
    AHEAD = 5
    BEHIND = 6


SPAN_DIMENSIONS: Final = (Dimension.SERVICE, Dimension.HOST, Dimension.OPERATION)
CALL_DIMENSIONS: Final = (Dimension.CALLEE, Dimension.NETWORK_TIME, Dimension.AHEAD, Dimension.BEHIND)
ANY_KIND: Final = 0  # of a series of detection: entry spans of all kinds, or calls


class Series(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Key of a row: the spans of one kind (OTLP enum), of the service ("") or of one host, operation or callee.

    A struct and no named tuple: there is one for each row of each message, and it is made in an eighth of the time.
    """

    kind: int
    dimension: Dimension
    name: str

    def of_any_kind(self) -> "Series":
        return Series(ANY_KIND, self.dimension, self.name)


SERVICE: Final = Series(ANY_KIND, Dimension.SERVICE, "")


class Exemplar(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """One real span that stands for others."""

    duration_ns: int
    # 32 lower-case hex digits.
    trace_id: str
    host: str
    operation: str


class PackedSketches(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A latency sketch and an error count for each of n series, as messages and states hold them.

    The arrays are little-endian; `udfs.spans.sketches` reads and writes them. counts and errors are unsigned integers
    of 1, 2, 4 or 8 bytes: the smallest size that holds all of them, because most counts are small and fill most of the
    state.
    """

    # Distinct and ascending.
    keys: tuple[Series, ...] = ()
    # n counts of spans with status ERROR.
    errors: bytes = b""
    # n uint16: the number of bins of each series, > 0.
    sizes: bytes = b""
    # m uint16, ascending within a series, as in `udfs.stats.duration_histogram`.
    bins: bytes = b""
    # m counts of spans, > 0.
    counts: bytes = b""


class SpanTable(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Spans of one service in one window: a row for each series, and exemplars and attributes of all spans."""

    sketches: PackedSketches
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

    @property
    def keys(self) -> tuple[Series, ...]:
        return self.sketches.keys


class SpanBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The n accepted spans of one message, not yet grouped by name.

    spans, groups, exemplars and sides are arrays. Their elements refer to each other and to the names by index.
    """

    at: OffsetRange
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
    # Of `SOURCE_DTYPE`.
    sources: bytes = b""


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

# A resource with a version or an image that has spans in time in a window. info: index of its attributes.
SOURCE_DTYPE: Final = np.dtype([("start_ms", "<i8"), ("service", "<u4"), ("host", "<u4"), ("info", "<u4")])

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
