"""Iceberg tables of the namespace `insights`: columns, partitions, order, and the rows that jobs write into them.

Fields keep their ids for ever. A new column goes to the end of its TableSpec and of the row struct above it; sinks
and their SQL follow.
"""

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

NAMESPACE: Final = "insights"
RESOLUTIONS_S: Final = (10, 60, 300)

ColumnType = Literal["string", "int", "long", "double", "boolean", "timestamptz", "binary"]


@dataclass(frozen=True, slots=True)
class Column:
    """name, type and what a reader must know."""

    name: str
    type: ColumnType
    doc: str

    @property
    def field(self) -> tuple[str, ColumnType]:
        """Give name and type of the field of a row: that of a `timestamptz` column `x` is `x_ms`, in epoch ms."""
        return (f"{self.name}_ms", "long") if self.type == "timestamptz" else (self.name, self.type)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table and its rows.

    partition: (column, transform); transforms are Iceberg's: `hour`, `identity`, `bucket[16]`. sort: columns.
    row: the struct of its rows, with the fields of the columns in their order; None where a sink makes them by name.
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
        """Give name and type of each field of a row, in the order of the columns."""
        return tuple(column.field for column in self.columns)


_PARTITION: Final = (("window_start", "hour"), ("env", "identity"), ("service", "bucket[16]"))


class RollupRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `latency_rollups`: a *delta*; rows of the same window add up.

    sketch: as `udfs.stats.duration_histogram` packs and unpacks it.
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


LATENCY_ROLLUPS: Final = TableSpec(
    "latency_rollups",
    (
        Column("env", "string", "deployment environment"),
        Column("site_id", "string", "site, or empty"),
        Column("service", "string", "service.name"),
        Column("dimension", "string", "service, host or operation: add up one dimension only"),
        Column("name", "string", "host or operation; empty for the service"),
        Column("span_kind", "string", "OTel span kind; server and consumer are what the service answers"),
        Column("resolution_s", "int", "length of the window: 10, 60 or 300; add up one resolution only"),
        Column("window_start", "timestamptz", "start of the window, by span end"),
        Column("late", "boolean", "arrived after the allowed lateness: not used for detection"),
        Column("count", "long", "spans of this delta row; rows of one window add up"),
        Column("error_count", "long", "of these with status ERROR"),
        Column("latency_ms_p50", "double", "of this row alone, within 1 %"),
        Column("latency_ms_p95", "double", "of this row alone, within 1 %"),
        Column("latency_ms_p99", "double", "of this row alone, within 1 %"),
        Column("sketch", "binary", "n uint16 bins, then n int64 counts, little-endian; merge by adding counts"),
    ),
    _PARTITION,
    ("service", "window_start"),
    RollupRow,
)


class EdgeRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `service_edges`: calls of `service` to `callee` among the traces that were paired; a *delta* as well.

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


SERVICE_EDGES: Final = TableSpec(
    "service_edges",
    (
        Column("env", "string", "deployment environment"),
        Column("site_id", "string", "site, or empty"),
        Column("service", "string", "service.name of the caller"),
        Column("callee", "string", "service.name of the service that answers"),
        Column("resolution_s", "int", "length of the window: 10, 60 or 300; add up one resolution only"),
        Column("window_start", "timestamptz", "start of the window, by the end of the client span"),
        Column("late", "boolean", "one of its halves arrived after the allowed lateness: not used for detection"),
        Column("count", "long", "calls paired, of a sample of traces where there are many; rows of one window add up"),
        Column("error_count", "long", "of these with status ERROR at the caller"),
        Column("latency_ms_p50", "double", "of the client span, of this row alone, within 1 %"),
        Column("latency_ms_p95", "double", "of the client span, of this row alone, within 1 %"),
        Column("latency_ms_p99", "double", "of the client span, of this row alone, within 1 %"),
        Column("gap_ms_p50", "double", "client span less server span: the network and its queues"),
        Column("gap_ms_p95", "double", "client span less server span: the network and its queues"),
        Column("clock_skew_ms_p50", "double", "how far the callee's clock is ahead of the caller's"),
        Column("sketch", "binary", "of the client span: n uint16 bins, then n int64 counts; merge by adding counts"),
    ),
    _PARTITION,
    ("service", "window_start"),
    EdgeRow,
)


class PatternRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `error_patterns`: lines of WARN and up of one pattern in a window; a *delta* as well.

    source: a `LineSource`. template: "" of `other`.
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


ERROR_PATTERNS: Final = TableSpec(
    "error_patterns",
    (
        Column("env", "string", "deployment environment"),
        Column("site_id", "string", "site, or empty"),
        Column("service", "string", "service.name"),
        Column("source", "string", "logs, or spans: exceptions recorded as their events; add up one source only"),
        Column("resolution_s", "int", "length of the window: 10 or 60; add up one resolution only"),
        Column("window_start", "timestamptz", "start of the window, by time of the record or end of the span"),
        Column("late", "boolean", "arrived after the allowed lateness: not used for detection"),
        Column("rank", "int", "by count within this delta, from 1 on; 0 is `other`: all further patterns together"),
        Column("pattern_id", "string", "as in pattern_registry; `other` of rank 0"),
        Column("template", "string", "masked, as it was known then; empty of `other`"),
        Column("severity_number", "int", "the greatest of these lines, OpenTelemetry's; 0 where none was said"),
        Column("count", "long", "lines of WARN and up, and exceptions; rows of one window add up"),
        Column("total", "long", "lines of the whole delta, which its rows add up to"),
    ),
    _PARTITION,
    ("service", "window_start"),
    PatternRow,
)


class PatternName(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `pattern_registry`: name of a pattern from at_ms on. source: a `LineSource`. alias_of: "" for none."""

    env: str
    service: str
    source: str
    pattern_id: str
    template: str
    first_seen_ms: int
    alias_of: str
    at_ms: int


PATTERN_REGISTRY: Final = TableSpec(
    "pattern_registry",
    (
        Column("env", "string", "deployment environment"),
        Column("service", "string", "service.name"),
        Column("source", "string", "logs or spans, as in error_patterns; each has names of its own"),
        Column("pattern_id", "string", "a hash of the words of the line: the same everywhere and always"),
        Column("template", "string", "masked; the newest row of an id and source holds"),
        Column("first_seen", "timestamptz", "start of the window in which this service first logged it"),
        Column("alias_of", "string", "the pattern that it has become part of, or empty"),
        Column("at", "timestamptz", "from when on this row holds"),
    ),
    (("env", "identity"), ("service", "bucket[16]")),
    ("service", "pattern_id"),
    PatternName,
)

INSIGHTS: Final = TableSpec(
    "insights",
    (
        Column("insight_id", "string", "pure function of what it is about"),
        Column("revision", "int", "the highest one of an id holds"),
        Column("status", "string", "open, updated, closed, retracted"),
        Column("kind", "string", "what was found"),
        Column("env", "string", "deployment environment"),
        Column("site_id", "string", "site, or empty"),
        Column("service", "string", "service.name; empty for a whole environment"),
        Column("subject", "string", "operation, signal type, rule id, ..."),
        Column("window_start", "timestamptz", "start of the episode"),
        Column("window_end", "timestamptz", "its end, or the newest window"),
        Column("severity", "string", "info, warning, critical"),
        Column("confidence", "double", "0..1"),
        Column("cold_start", "boolean", "the baseline was young"),
        Column("title", "string", "one line for a person"),
        Column("body", "string", "Insight v1 as JSON, with evidence"),
    ),
    _PARTITION,
    ("service", "window_start"),
    None,
)

TABLES: Final = (LATENCY_ROLLUPS, SERVICE_EDGES, ERROR_PATTERNS, PATTERN_REGISTRY, INSIGHTS)
