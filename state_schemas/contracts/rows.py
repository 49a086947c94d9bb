"""Rows of the Iceberg tables."""

from typing import Final

import msgspec

RESOLUTIONS_S: Final = (10, 60, 300)


class RollupRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of `latency_rollups`: a *delta*; rows of the same window add up. late: not used for detection.

    sketch: n little-endian uint16 bins followed by n little-endian int64 counts
    (`udfs.stats.duration_histogram.unpack`). Quantiles are of this row alone, in milliseconds.
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


class EdgeRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of `service_edges`: calls of `service` to `callee` among the traces that were paired; a *delta* as well.

    Latency is that of the client span, gap what the server span under it does not cover, both in milliseconds.
    clock_skew_ms_p50: how far the callee's clock is ahead of the caller's. sketch: of latency, as in `RollupRow`.
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


class PatternRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of `error_patterns`: lines of WARN and up of one pattern in a window; a *delta* as well.

    rank: from 1 on by count within this delta, 0 for `other`, all further patterns together. total: lines of the delta,
    which its rows add up to. template: masked, "" of `other`. source: a `LineSource`; rows of two do not add up.
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


class PatternName(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of `pattern_registry`: what a pattern is called from at_ms on. The newest row of an id and source holds.

    alias_of: the pattern that it has become part of, or "". source: a `LineSource`; each has its registry.
    """

    env: str
    service: str
    source: str
    pattern_id: str
    template: str
    first_seen_ms: int
    alias_of: str
    at_ms: int
