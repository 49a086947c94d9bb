"""Iceberg tables of the namespace `insights`: columns, partitions, order, and the rows that jobs write into them.

The ids of fields never change. A new column is added at the end of its TableSpec and of its row struct; sinks and their
SQL are derived from them.
"""

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

NAMESPACE: Final = "insights"
RESOLUTIONS_S: Final = (10, 60, 300)

ColumnType = Literal["string", "int", "long", "double", "boolean", "timestamptz", "binary"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name, type and documentation for readers of the table."""

    name: str
    type: ColumnType
    doc: str

    @property
    def field(self) -> tuple[str, ColumnType]:
        """Return name and type of the field of a row; of a `timestamptz` column `x` it is `x_ms`, in epoch ms."""
        return (f"{self.name}_ms", "long") if self.type == "timestamptz" else (self.name, self.type)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table and its rows.

    - partition: (column, transform); transforms are Iceberg's: `hour`, `identity`, `bucket[16]`.
    - sort: columns by which the rows of a file are sorted.
    - row: struct of the rows, with one field for each column in the same order; None when a sink builds the rows by
      name.
    """

    name: str
    columns: tuple[Column, ...]
    partition: tuple[tuple[str, str], ...]
    sort: tuple[str, ...]
    row: type[msgspec.Struct] | None

    def __post_init__(self) -> None:
        expected = tuple(name for name, _ in self.fields)
        found = self.row.__struct_fields__ if self.row else expected
        assert found == expected, (
            f"{self.name}: the row struct has the fields {found}, expected {expected}: "
            "give both the same columns in the same order"
        )

    @property
    def fields(self) -> tuple[tuple[str, ColumnType], ...]:
        """Return name and type of each field of a row, in the order of the columns."""
        return tuple(column.field for column in self.columns)


_PARTITION: Final = (("window_start", "hour"), ("env", "identity"), ("service", "bucket[16]"))


class RollupRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `latency_rollups`: a *delta*; rows of the same window add up.

    sketch: packed and unpacked by `udfs.stats.duration_histogram`.
    """

    env: str
    site_id: str
    service: str
    dimension: str
    name: str
    span_kind: str
    resolution_s: int
    window_start_ms: int
    late: bool
    count: int
    error_count: int
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    sketch: bytes
    namespace: str


LATENCY_ROLLUPS: Final = TableSpec(
    "latency_rollups",
    (
        Column("env", "string", "deployment environment"),
        Column("site_id", "string", "site, or empty"),
        Column("service", "string", "service.name"),
        Column("dimension", "string", "service, host or operation: add up one dimension only"),
        Column("name", "string", "host or operation; empty for the service"),
        Column("span_kind", "string", "OTel span kind; server and consumer are entry spans"),
        Column("resolution_s", "int", "length of the window: 10, 60 or 300; add up one resolution only"),
        Column("window_start", "timestamptz", "start of the window, by span end"),
        Column("late", "boolean", "arrived after the allowed lateness: not used for detection"),
        Column("count", "long", "spans of this delta row; rows of one window add up"),
        Column("error_count", "long", "spans of this delta row with status ERROR"),
        Column("latency_ms_p50", "double", "median of this row alone, within 1 %"),
        Column("latency_ms_p95", "double", "95th percentile of this row alone, within 1 %"),
        Column("latency_ms_p99", "double", "99th percentile of this row alone, within 1 %"),
        Column("sketch", "binary", "n uint16 bins, then n int64 counts, little-endian; merge by adding counts"),
        Column("namespace", "string", "service.namespace, or empty"),
    ),
    _PARTITION,
    ("service", "window_start"),
    RollupRow,
)


class EdgeRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `service_edges`: paired calls of `service` to `callee`, from a sample of traces; a *delta*.

    sketch: as in `RollupRow`.
    """

    env: str
    site_id: str
    service: str
    callee: str
    resolution_s: int
    window_start_ms: int
    late: bool
    count: int
    error_count: int
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    gap_ms_p50: float
    gap_ms_p95: float
    clock_skew_ms_p50: float
    sketch: bytes
    namespace: str
    callee_namespace: str


SERVICE_EDGES: Final = TableSpec(
    "service_edges",
    (
        Column("env", "string", "deployment environment"),
        Column("site_id", "string", "site, or empty"),
        Column("service", "string", "service.name of the caller"),
        Column("callee", "string", "service.name of the service that answers"),
        Column("resolution_s", "int", "length of the window: 10, 60 or 300; add up one resolution only"),
        Column("window_start", "timestamptz", "start of the window, by the end of the client span"),
        Column("late", "boolean", "a side of the call arrived after the allowed lateness: not used for detection"),
        Column("count", "long", "paired calls, from a sample of traces when there are many; rows of one window add up"),
        Column("error_count", "long", "paired calls with status ERROR at the caller"),
        Column("latency_ms_p50", "double", "median of the client spans of this row alone, within 1 %"),
        Column("latency_ms_p95", "double", "95th percentile of the client spans of this row alone, within 1 %"),
        Column("latency_ms_p99", "double", "99th percentile of the client spans of this row alone, within 1 %"),
        Column("gap_ms_p50", "double", "median network time: duration of the client span less that of the server span"),
        Column("gap_ms_p95", "double", "95th percentile of the network time: client span less server span"),
        Column("clock_skew_ms_p50", "double", "median of how far the callee's clock is ahead of the caller's"),
        Column("sketch", "binary", "of client spans: n uint16 bins, then n int64 counts; merge by adding counts"),
        Column("namespace", "string", "service.namespace of the caller, or empty"),
        Column("callee_namespace", "string", "service.namespace of the callee, or empty"),
    ),
    _PARTITION,
    ("service", "window_start"),
    EdgeRow,
)


class PatternRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `error_patterns`: severe lines of one pattern in a window; a *delta*.

    - source: a `LineSource`.
    - template: "" for `other`.
    """

    env: str
    site_id: str
    service: str
    source: str
    resolution_s: int
    window_start_ms: int
    late: bool
    rank: int
    pattern_id: str
    template: str
    severity_number: int
    count: int
    total: int
    namespace: str


ERROR_PATTERNS: Final = TableSpec(
    "error_patterns",
    (
        Column("env", "string", "deployment environment"),
        Column("site_id", "string", "site, or empty"),
        Column("service", "string", "service.name"),
        Column("source", "string", "logs, or spans (exceptions recorded as span events); add up one source only"),
        Column("resolution_s", "int", "length of the window: 10 or 60; add up one resolution only"),
        Column("window_start", "timestamptz", "start of the window, by time of the record or end of the span"),
        Column("late", "boolean", "arrived after the allowed lateness: not used for detection"),
        Column("rank", "int", "rank by count in this delta, from 1; 0 is `other`: all further patterns together"),
        Column("pattern_id", "string", "as in pattern_registry; `other` for rank 0"),
        Column("template", "string", "template at that time, masked; empty for `other`"),
        Column("severity_number", "int", "highest OpenTelemetry severity number of these lines; 0 if none has one"),
        Column("count", "long", "severe lines or exceptions of the pattern; rows of one window add up"),
        Column("total", "long", "lines of the whole delta: the sum of its rows"),
        Column("namespace", "string", "service.namespace, or empty"),
    ),
    _PARTITION,
    ("service", "window_start"),
    PatternRow,
)


class PatternName(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `pattern_registry`: the name of a pattern from at_ms on.

    - source: a `LineSource`.
    - alias_of: "" for none.
    """

    env: str
    service: str
    source: str
    pattern_id: str
    template: str
    first_seen_ms: int
    alias_of: str
    at_ms: int
    namespace: str


PATTERN_REGISTRY: Final = TableSpec(
    "pattern_registry",
    (
        Column("env", "string", "deployment environment"),
        Column("service", "string", "service.name"),
        Column("source", "string", "logs or spans, as in error_patterns; each source has its own names"),
        Column("pattern_id", "string", "hash of the words of the line: the same in every service and at all times"),
        Column("template", "string", "masked template; the newest row of an id and source is valid"),
        Column("first_seen", "timestamptz", "start of the window in which this service first logged it"),
        Column("alias_of", "string", "id of the pattern into which it was merged, or empty"),
        Column("at", "timestamptz", "time from which this row is valid"),
        Column("namespace", "string", "service.namespace, or empty"),
    ),
    (("env", "identity"), ("service", "bucket[16]")),
    ("service", "pattern_id"),
    PatternName,
)

INSIGHTS: Final = TableSpec(
    "insights",
    (
        Column("insight_id", "string", "hash of kind, environment, service, subject and start of the episode"),
        Column("revision", "int", "the highest revision of an id is valid"),
        Column("status", "string", "open, updated, closed, retracted"),
        Column("kind", "string", "kind of insight, such as latency_spike"),
        Column("env", "string", "deployment environment"),
        Column("site_id", "string", "site, or empty"),
        Column("service", "string", "service.name; empty for a whole environment"),
        Column("subject", "string", "operation, signal type, rule id, ..."),
        Column("window_start", "timestamptz", "start of the episode"),
        Column("window_end", "timestamptz", "end of the episode, or of its newest window"),
        Column("severity", "string", "info, warning, critical"),
        Column("confidence", "double", "0..1"),
        Column("cold_start", "boolean", "the baseline was still in warm-up"),
        Column("title", "string", "one line for people"),
        Column("body", "string", "Insight v1 as JSON, with evidence"),
        Column("namespace", "string", "service.namespace, or empty"),
    ),
    _PARTITION,
    ("service", "window_start"),
    None,
)

TABLES: Final = (LATENCY_ROLLUPS, SERVICE_EDGES, ERROR_PATTERNS, PATTERN_REGISTRY, INSIGHTS)
