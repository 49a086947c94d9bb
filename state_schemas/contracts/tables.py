"""Iceberg tables of the namespace `insights`: columns, partitions, order, and the rows that jobs write into them.

A column is a field of the row struct with its type and its documentation; tables, sinks and their SQL are derived from
them. The ids of columns never change. A new column is added at the end of its row struct.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_type_hints

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

    - row: struct of the rows; None when a sink builds the rows by name.
    - partition: (column, transform); transforms are Iceberg's: `hour`, `identity`, `bucket[16]`.
    - sort: columns by which the rows of a file are sorted.
    """

    name: str
    columns: tuple[Column, ...]
    row: type[msgspec.Struct] | None = None
    partition: tuple[tuple[str, str], ...] = (("window_start", "hour"), ("env", "identity"), ("service", "bucket[16]"))
    sort: tuple[str, ...] = ("service", "window_start")

    @property
    def fields(self) -> tuple[tuple[str, ColumnType], ...]:
        """Return name and type of each field of a row, in the order of the columns."""
        return tuple(column.field for column in self.columns)


def _columns(row: type[msgspec.Struct]) -> tuple[Column, ...]:
    """Return the columns of a row struct: a field `x_ms` of type `timestamptz` is the column `x`."""
    found = []
    for name, hint in get_type_hints(row, include_extras=True).items():
        kind, doc = hint.__metadata__
        found.append(Column(name.removesuffix("_ms") if kind == "timestamptz" else name, kind, doc))
    return tuple(found)


class RollupRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `latency_rollups`: a *delta*; rows of the same window add up.

    sketch: packed and unpacked by `udfs.stats.duration_histogram`.
    """

    env: Annotated[str, "string", "deployment environment"]
    site_id: Annotated[str, "string", "site, or empty"]
    service: Annotated[str, "string", "service.name"]
    dimension: Annotated[str, "string", "service, host or operation: add up one dimension only"]
    name: Annotated[str, "string", "host or operation; empty for the service"]
    span_kind: Annotated[str, "string", "OTel span kind; server and consumer are entry spans"]
    resolution_s: Annotated[int, "int", "length of the window: 10, 60 or 300; add up one resolution only"]
    window_start_ms: Annotated[int, "timestamptz", "start of the window, by span end"]
    late: Annotated[bool, "boolean", "arrived after the allowed lateness: not used for detection"]
    count: Annotated[int, "long", "spans of this delta row; rows of one window add up"]
    error_count: Annotated[int, "long", "spans of this delta row with status ERROR"]
    latency_ms_p50: Annotated[float, "double", "median of this row alone, within 1 %"]
    latency_ms_p95: Annotated[float, "double", "95th percentile of this row alone, within 1 %"]
    latency_ms_p99: Annotated[float, "double", "99th percentile of this row alone, within 1 %"]
    sketch: Annotated[bytes, "binary", "n uint16 bins, then n int64 counts, little-endian; merge by adding counts"]
    namespace: Annotated[str, "string", "service.namespace, or empty"]


class EdgeRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `service_edges`: paired calls of `service` to `callee`, from a sample of traces; a *delta*.

    sketch: as in `RollupRow`.
    """

    env: Annotated[str, "string", "deployment environment"]
    site_id: Annotated[str, "string", "site, or empty"]
    service: Annotated[str, "string", "service.name of the caller"]
    callee: Annotated[str, "string", "service.name of the service that answers"]
    resolution_s: Annotated[int, "int", "length of the window: 10, 60 or 300; add up one resolution only"]
    window_start_ms: Annotated[int, "timestamptz", "start of the window, by the end of the client span"]
    late: Annotated[bool, "boolean", "a side of the call arrived after the allowed lateness: not used for detection"]
    count: Annotated[
        int, "long", "paired calls, from a sample of traces when there are many; rows of one window add up"
    ]
    error_count: Annotated[int, "long", "paired calls with status ERROR at the caller"]
    latency_ms_p50: Annotated[float, "double", "median of the client spans of this row alone, within 1 %"]
    latency_ms_p95: Annotated[float, "double", "95th percentile of the client spans of this row alone, within 1 %"]
    latency_ms_p99: Annotated[float, "double", "99th percentile of the client spans of this row alone, within 1 %"]
    gap_ms_p50: Annotated[
        float, "double", "median network time: duration of the client span less that of the server span"
    ]
    gap_ms_p95: Annotated[float, "double", "95th percentile of the network time: client span less server span"]
    clock_skew_ms_p50: Annotated[float, "double", "median of how far the callee's clock is ahead of the caller's"]
    sketch: Annotated[bytes, "binary", "of client spans: n uint16 bins, then n int64 counts; merge by adding counts"]
    namespace: Annotated[str, "string", "service.namespace of the caller, or empty"]
    callee_namespace: Annotated[str, "string", "service.namespace of the callee, or empty"]


class PatternRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `error_patterns`: severe lines of one pattern in a window; a *delta*.

    - source: a `LineSource`.
    - template: "" for `other`.
    """

    env: Annotated[str, "string", "deployment environment"]
    site_id: Annotated[str, "string", "site, or empty"]
    service: Annotated[str, "string", "service.name"]
    source: Annotated[str, "string", "logs, or spans (exceptions recorded as span events); add up one source only"]
    resolution_s: Annotated[int, "int", "length of the window: 10 or 60; add up one resolution only"]
    window_start_ms: Annotated[int, "timestamptz", "start of the window, by time of the record or end of the span"]
    late: Annotated[bool, "boolean", "arrived after the allowed lateness: not used for detection"]
    rank: Annotated[int, "int", "rank by count in this delta, from 1; 0 is `other`: all further patterns together"]
    pattern_id: Annotated[str, "string", "as in pattern_registry; `other` for rank 0"]
    template: Annotated[str, "string", "template at that time, masked; empty for `other`"]
    severity_number: Annotated[int, "int", "highest OpenTelemetry severity number of these lines; 0 if none has one"]
    count: Annotated[int, "long", "severe lines or exceptions of the pattern; rows of one window add up"]
    total: Annotated[int, "long", "lines of the whole delta: the sum of its rows"]
    namespace: Annotated[str, "string", "service.namespace, or empty"]


class PatternName(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `pattern_registry`: the name of a pattern from at_ms on.

    - source: a `LineSource`.
    - alias_of: "" for none.
    """

    env: Annotated[str, "string", "deployment environment"]
    service: Annotated[str, "string", "service.name"]
    source: Annotated[str, "string", "logs or spans, as in error_patterns; each source has its own names"]
    pattern_id: Annotated[str, "string", "hash of the words of the line: the same in every service and at all times"]
    template: Annotated[str, "string", "masked template; the newest row of an id and source is valid"]
    first_seen_ms: Annotated[int, "timestamptz", "start of the window in which this service first logged it"]
    alias_of: Annotated[str, "string", "id of the pattern into which it was merged, or empty"]
    at_ms: Annotated[int, "timestamptz", "time from which this row is valid"]
    namespace: Annotated[str, "string", "service.namespace, or empty"]


class MatchRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Row of `sequence_matches`: a revision of a match of a sequence rule, or of what a rule misses.

    timeline: a list of `TimelineStep`.
    """

    insight_id: Annotated[str, "string", "as in insights, which has the evidence"]
    revision: Annotated[int, "int", "the highest revision of an id is valid"]
    status: Annotated[str, "string", "open, updated, closed, retracted"]
    env: Annotated[str, "string", "deployment environment"]
    service: Annotated[str, "string", "service.name; empty for a whole environment"]
    rule_id: Annotated[str, "string", "id of the rule"]
    rule_version: Annotated[int, "int", "version of the rule under which the match began"]
    is_missing: Annotated[bool, "boolean", "the last step did not come: sequence_missing"]
    severity: Annotated[str, "string", "of the rule: info, warning, critical"]
    window_start_ms: Annotated[int, "timestamptz", "first step"]
    window_end_ms: Annotated[int, "timestamptz", "last step, or end of the time in which it did not come"]
    matches: Annotated[int, "long", "how many matches of the rule within suppress_ms it stands for"]
    timeline: Annotated[str, "string", "steps as JSON: step, at_ms, delay_ms, signals, service, title, insight_id"]
    title: Annotated[str, "string", "one line for people"]
    namespace: Annotated[str, "string", "service.namespace, or empty"]


LATENCY_ROLLUPS: Final = TableSpec("latency_rollups", _columns(RollupRow), RollupRow)
SERVICE_EDGES: Final = TableSpec("service_edges", _columns(EdgeRow), EdgeRow)
ERROR_PATTERNS: Final = TableSpec("error_patterns", _columns(PatternRow), PatternRow)
PATTERN_REGISTRY: Final = TableSpec(
    "pattern_registry",
    _columns(PatternName),
    PatternName,
    partition=(("env", "identity"), ("service", "bucket[16]")),
    sort=("service", "pattern_id"),
)
SEQUENCE_MATCHES: Final = TableSpec("sequence_matches", _columns(MatchRow), MatchRow, sort=("rule_id", "window_start"))
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
)

TABLES: Final = (LATENCY_ROLLUPS, SERVICE_EDGES, ERROR_PATTERNS, PATTERN_REGISTRY, INSIGHTS, SEQUENCE_MATCHES)
