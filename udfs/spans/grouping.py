"""Merge of batches of spans into one aggregate for each service: tables with a sketch for each host and operation.

The result depends only on the *set* of spans in the batches, as that of every merge does (`udfs.spans.window`).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.activity import Activity, ActivityWindow
from state_schemas.aggregates.calls import CALL_SIDE_DTYPE, NAMED_SIDE_DTYPE, CallSides
from state_schemas.aggregates.spans import (
    DIMENSION_HOST,
    DIMENSION_OPERATION,
    DIMENSION_SERVICE,
    DIMENSIONS,
    EXEMPLAR_DTYPE,
    GROUP_DTYPE,
    SPAN_DTYPE,
    Exemplar,
    RowKey,
    SpanAggregate,
    SpanBatch,
    SpanTable,
)
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo
from state_schemas.telemetry.spans import SPAN_KINDS
from udfs.activity import merge_activity, merge_ranges
from udfs.service_info import newest_info
from udfs.spans.calls import BUCKETS, named, trace_hash
from udfs.spans.kernels import exemplars_of, hash_table, intern_rows
from udfs.spans.window import NameLimits, bounded, pack_counts
from udfs.stats.duration_histogram import BIN_BITS

_Ints = NDArray[np.int64]
_Records = NDArray[np.void]
T = TypeVar("T", str, tuple[str, str], tuple[str, str, str, str])
_ROWS_FIRST: Final = 1 << 12
_KINDS: Final = len(SPAN_KINDS)
_DIMENSIONS: Final = len(DIMENSIONS)


class _Names(NamedTuple):
    """Names of all batches, ascending, and the distinct groups."""

    services: list[tuple[str, str]]
    hosts: list[str]
    operations: list[str]
    infos: list[tuple[str, str, str, str]]
    # One element for each group, ascending by (service, start, late).
    start_ms: _Ints
    late: _Ints
    service: _Ints


class Columns(NamedTuple):
    """All batches as arrays with indices into the common names and groups."""

    batches: Sequence[SpanBatch]
    names: _Names
    # Index of the distinct group of each group of the batches, batch after batch.
    group_of: _Ints
    spans: _Records
    groups: _Records
    exemplars: _Records
    # Of `NAMED_SIDE_DTYPE`.
    sides: _Records


def aggregates_of(columns: Columns, limits: NameLimits) -> tuple[SpanAggregate, ...]:
    """Return one aggregate for each (env, service), ascending.

    O(spans + cells log cells), vectorised over all services.
    """
    names = columns.names
    groups = zip(names.service.tolist(), names.start_ms.tolist(), names.late.tolist(), strict=True)
    windows = [
        (service, (start_ms, bool(late), bounded(table, limits)))
        for (service, start_ms, late), table in zip(groups, _tables(columns), strict=True)
    ]
    return tuple(
        SpanAggregate(names.services[service][0], names.services[service][1], tuple(window for _, window in members))
        for service, members in groupby(windows, key=lambda member: member[0])
    )


def call_sides_of(columns: Columns) -> tuple[CallSides, ...]:
    """Return the call sides of each environment and bucket of traces, in that order."""
    sides, services = columns.sides, columns.names.services
    envs = sorted({env for env, _ in services})
    env_of = np.array([envs.index(env) for env, _ in services], np.int64)
    bucket = trace_hash(sides["high"], sides["low"]) & np.uint64(BUCKETS - 1)
    code = env_of[sides["service"]] * BUCKETS + bucket.astype(np.int64)
    order = np.argsort(code, kind="stable")
    names = ([name for _, name in services], columns.names.hosts, columns.names.operations)
    parts = np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(order) else []
    keys = [divmod(int(code[part[0]]), BUCKETS) for part in parts]
    return tuple(named(envs[env], bucket, sides[part], names) for (env, bucket), part in zip(keys, parts, strict=True))


def activity_of(batches: Iterable[SpanBatch]) -> dict[str, tuple[ActivityWindow, ...]]:
    """Return the activity in traces by environment; late spans do not count."""
    windows: dict[str, list[ActivityWindow]] = {}
    for batch in batches:
        seen: dict[tuple[str, int], list[Activity]] = {}
        groups = np.frombuffer(batch.groups, GROUP_DTYPE)
        groups = groups[groups["late"] == 0]
        for service, start_ms, count in groups[["service", "start_ms", "count"]].tolist():
            env, name = batch.services[service]
            seen.setdefault((env, start_ms), []).append(Activity("traces", name, count))
        for (env, start_ms), active in seen.items():
            windows.setdefault(env, []).append(ActivityWindow(start_ms, tuple(active), (batch.at,)))
    return {env: merge_activity(of_env) for env, of_env in sorted(windows.items())}


def _union(parts: Sequence[Sequence[T]]) -> tuple[list[T], _Ints]:
    """Return the distinct values, ascending, and the index of each value of each part, part after part."""
    values = sorted({value for part in parts for value in part})
    index_of = {value: index for index, value in enumerate(values)}
    return values, np.array([index_of[value] for part in parts for value in part], dtype=np.int64)


def _joined(arrays: Sequence[_Records]) -> tuple[_Records, _Ints]:
    """Return the concatenated arrays, and for each element the number of its array."""
    return np.concatenate(arrays), np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])


def _offsets(parts: Sequence[Sequence[object]] | Sequence[_Records]) -> _Ints:
    return np.cumsum([0, *(len(part) for part in parts[:-1])])


def common(batches: Sequence[SpanBatch]) -> Columns:
    """Return batches (at least one) as concatenated arrays with common names."""
    services, service_of = _union([batch.services for batch in batches])
    hosts, host_of = _union([batch.hosts for batch in batches])
    operations, operation_of = _union([batch.operations for batch in batches])
    infos, info_index = _union([batch.infos for batch in batches])
    group_parts = [np.frombuffer(batch.groups, GROUP_DTYPE) for batch in batches]
    first_group, first_host, first_operation = (
        _offsets(parts)
        for parts in (group_parts, [batch.hosts for batch in batches], [batch.operations for batch in batches])
    )
    groups, batch_of = _joined(group_parts)
    groups["service"] = service_of[groups["service"] + _offsets([batch.services for batch in batches])[batch_of]]
    groups["info"] = info_index[groups["info"] + _offsets([batch.infos for batch in batches])[batch_of]]
    tables_of_groups, group_of = _distinct_groups(groups)
    spans, exemplars, sides = (
        _joined([np.frombuffer(data, dtype) for data in parts])
        for parts, dtype in (
            ([batch.spans for batch in batches], SPAN_DTYPE),
            ([batch.exemplars for batch in batches], EXEMPLAR_DTYPE),
            ([batch.sides for batch in batches], CALL_SIDE_DTYPE),
        )
    )
    for records, batch_of in (spans, exemplars):
        records["group"] = group_of[records["group"] + first_group[batch_of]]
        records["host"] = host_of[records["host"] + first_host[batch_of]]
        records["operation"] = operation_of[records["operation"] + first_operation[batch_of]]
    names = _Names(services, hosts, operations, infos, *tables_of_groups)
    return Columns(batches, names, group_of, spans[0], groups, exemplars[0], _named(batches, names, spans, sides))


def _named(
    batches: Sequence[SpanBatch], names: _Names, spans: tuple[_Records, _Ints], sides: tuple[_Records, _Ints]
) -> _Records:
    """Return the call sides with the service, host, operation and error of their span instead of its index."""
    indexed, batch_of = sides
    with_names = np.zeros(len(indexed), NAMED_SIDE_DTYPE)
    for field in ("high", "low", "span", "parent", "end_ns", "duration_ns"):
        with_names[field] = indexed[field]
    first_span = np.searchsorted(spans[1], np.arange(len(batches)))
    span = spans[0][indexed["place"] + first_span[batch_of]]
    with_names["sent_ms"] = np.array([batch.sent_ms for batch in batches], np.int64)[batch_of]
    with_names["service"] = names.service[span["group"]]
    for field in ("host", "operation", "error"):
        with_names[field] = span[field]
    return with_names


def _distinct_groups(groups: _Records) -> tuple[tuple[_Ints, _Ints, _Ints], _Ints]:
    """Return (start, late, service) of the distinct groups, by (service, start, late), and the index of each group."""
    start_ms, late, service = (groups[name].astype(np.int64) for name in ("start_ms", "late", "service"))
    order = np.lexsort((late, start_ms, service))
    changed = np.ones(len(order), np.bool_)
    changed[1:] = np.any([column[order][1:] != column[order][:-1] for column in (start_ms, late, service)], axis=0)
    index = np.empty(len(order), np.int64)
    index[order] = np.cumsum(changed) - 1
    first = order[changed]
    return (start_ms[first], late[first], service[first]), index


def _tables(columns: Columns) -> Iterator[SpanTable]:
    """Yield the table of each group."""
    groups = len(columns.names.service)
    rows = _rows(columns)
    exemplars = _exemplars(columns)
    infos = _newest_info(columns)
    ranges = _ranges(columns)
    for index, ((row, next_row), (cell, next_cell)) in enumerate(
        zip(pairwise(rows.first_row), pairwise(rows.first_cell), strict=True)
    ):
        yield SpanTable(
            keys=tuple(rows.keys[row:next_row]),
            errors=pack_counts(rows.errors[row:next_row]),
            sizes=rows.sizes[row:next_row].tobytes(),
            bins=rows.bins[cell:next_cell].tobytes(),
            counts=pack_counts(rows.counts[cell:next_cell]),
            info=infos[index],
            slowest=tuple(exemplars[index]),
            sampled=tuple(exemplars[groups + index]),
            failing=tuple(exemplars[2 * groups + index]),
            ranges=ranges[index],
        )


class _Rows(NamedTuple):
    """Rows and cells of all groups: rows of group g are first_row[g] to first_row[g + 1], cells in the same way."""

    keys: list[RowKey]
    errors: _Ints
    sizes: NDArray[np.uint16]
    bins: NDArray[np.uint16]
    counts: _Ints
    first_row: list[int]
    first_cell: list[int]


def _rows(columns: Columns) -> _Rows:
    # Codes have the order of row keys: group, kind, dimension, then the index of the name, as names are ascending.
    spans, names = columns.spans, columns.names
    width = max(1, len(names.hosts), len(names.operations))
    in_kind = (spans["group"].astype(np.int64) * _KINDS + spans["kind"]) * _DIMENSIONS
    indices = ((DIMENSION_SERVICE, 0), (DIMENSION_HOST, spans["host"]), (DIMENSION_OPERATION, spans["operation"]))
    codes = np.concatenate([(in_kind + dimension) * width + index for dimension, index in indices])
    values, errors, row = _numbered(codes, np.tile(spans["error"], _DIMENSIONS))
    order = np.argsort(values)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    values = values[order]
    cells = np.sort((rank[row] << BIN_BITS) | np.tile(spans["bin"], _DIMENSIONS))
    starts = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1])))
    cells, counts = cells[starts], np.diff(starts, append=len(cells))
    first_row = np.searchsorted(values, np.arange(len(names.service) + 1) * (_KINDS * _DIMENSIONS * width))
    cell_row = cells >> BIN_BITS
    by_dimension = ([""], names.hosts, names.operations)
    kinds = (values // (width * _DIMENSIONS) % _KINDS).tolist()
    parts = zip(kinds, (values // width % _DIMENSIONS).tolist(), (values % width).tolist(), strict=True)
    return _Rows(
        keys=[(kind, dimension, by_dimension[dimension][index]) for kind, dimension, index in parts],
        errors=errors[order],
        sizes=np.bincount(cell_row, minlength=len(values)).astype("<u2"),
        bins=(cells & ((1 << BIN_BITS) - 1)).astype("<u2"),
        counts=counts,
        first_row=first_row.tolist(),
        first_cell=np.searchsorted(cell_row, first_row).tolist(),
    )


def _numbered(codes: _Ints, error: NDArray[np.uint8]) -> tuple[_Ints, _Ints, NDArray[np.int32]]:
    """Return the distinct codes by first appearance, their errors, and the number of each code. O(n)."""
    row = np.empty(len(codes), np.int32)
    size = _ROWS_FIRST
    while True:
        keys, errors = np.empty(size, np.int64), np.zeros(size, np.int64)
        count = intern_rows(codes, error, keys, errors, hash_table(size), row)
        if count >= 0:
            return keys[:count], errors[:count], row
        size *= 4


def _newest_info(columns: Columns) -> list[ServiceInfo]:
    """Return the attributes of each group."""
    groups, names = columns.groups, columns.names
    return newest_info(
        len(names.service), columns.group_of, groups["newest_ms"], groups["info"].astype(np.int64), names.infos
    )


def _ranges(columns: Columns) -> list[tuple[OffsetRange, ...]]:
    by_group: list[list[OffsetRange]] = [[] for _ in columns.names.service]
    indices = iter(columns.group_of.tolist())
    for batch in columns.batches:
        for _ in range(len(batch.groups) // GROUP_DTYPE.itemsize):
            by_group[next(indices)].append(batch.at)
    return [merge_ranges(ranges) for ranges in by_group]


def _exemplars(columns: Columns) -> list[list[Exemplar]]:
    """Return the slowest exemplars of each group, then the sampled, then the failing ones of each group."""
    groups, names = len(columns.names.service), columns.names
    roles = (1 << columns.exemplars["role"]).astype(np.uint8)
    kept = exemplars_of(columns.exemplars, roles, groups)
    exemplars: list[list[Exemplar]] = [[] for _ in range(3 * groups)]
    traces = kept[["high", "low"]].astype([("high", ">u8"), ("low", ">u8")]).tobytes().hex()
    fields = ["role", "group", "duration_ns", "host", "operation"]
    for index, (role, group, duration_ns, host, operation) in enumerate(kept[fields].tolist()):
        trace_id = traces[32 * index : 32 * index + 32]
        exemplar = Exemplar(duration_ns, trace_id, names.hosts[host], names.operations[operation])
        exemplars[role * groups + group].append(exemplar)
    return exemplars
