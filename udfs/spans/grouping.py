"""Batches of spans, merged into one partial for each service: blocks with a sketch for each host and operation.

A pure function of the *set* of spans in the batches, like every merge (`udfs.spans.window`).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.activity import Presence, PresencePane
from state_schemas.aggregates.calls import HALF_DTYPE, HELD_DTYPE, CallHalves
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
    SpanBatch,
    SpanBlock,
    SpanPartial,
)
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo
from state_schemas.telemetry.spans import SPAN_KINDS
from udfs.activity import merge_presence, merge_ranges
from udfs.service_info import newest_info
from udfs.spans.calls import BUCKETS, named, trace_hash
from udfs.spans.kernels import exemplars_of, intern_rows, table
from udfs.spans.window import NameLimits, bounded, pack_counts
from udfs.stats.duration_histogram import BIN_BITS

_Ints = NDArray[np.int64]
_Records = NDArray[np.void]
T = TypeVar("T", str, tuple[str, str], tuple[str, str, str, str])
_ROWS_FIRST: Final = 1 << 12
_KINDS: Final = len(SPAN_KINDS)
_DIMENSIONS: Final = len(DIMENSIONS)


class _Tables(NamedTuple):
    """Names of all batches, ascending. start_ms, late, service: of each group, ascending by (service, start, late)."""

    services: list[tuple[str, str]]
    hosts: list[str]
    operations: list[str]
    facts: list[tuple[str, str, str, str]]
    start_ms: _Ints
    late: _Ints
    service: _Ints


class Columns(NamedTuple):
    """All batches with places in the common tables. group_of: of each batch's groups, one after the other.

    halves: of `HELD_DTYPE`.
    """

    batches: Sequence[SpanBatch]
    tables: _Tables
    group_of: _Ints
    spans: _Records
    groups: _Records
    exemplars: _Records
    halves: _Records


def partials_of(columns: Columns, limits: NameLimits) -> tuple[SpanPartial, ...]:
    """One partial for each (env, service), ascending. O(spans + cells log cells), vectorised over all services."""
    tables = columns.tables
    places = zip(tables.service.tolist(), tables.start_ms.tolist(), tables.late.tolist(), strict=True)
    panes = [
        (service, (start_ms, bool(late), bounded(block, limits)))
        for (service, start_ms, late), block in zip(places, _blocks(columns), strict=True)
    ]
    return tuple(
        SpanPartial(tables.services[service][0], tables.services[service][1], tuple(pane for _, pane in found))
        for service, found in groupby(panes, key=lambda placed: placed[0])
    )


def halves_of(columns: Columns) -> tuple[CallHalves, ...]:
    """Halves of calls for each environment and bucket of traces, in that order."""
    halves, services = columns.halves, columns.tables.services
    envs = sorted({env for env, _ in services})
    env_of = np.array([envs.index(env) for env, _ in services], np.int64)
    bucket = trace_hash(halves["high"], halves["low"]) & np.uint64(BUCKETS - 1)
    code = env_of[halves["service"]] * BUCKETS + bucket.astype(np.int64)
    order = np.argsort(code, kind="stable")
    tables = ([name for _, name in services], columns.tables.hosts, columns.tables.operations)
    parts = np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(order) else []
    places = [divmod(int(code[part[0]]), BUCKETS) for part in parts]
    return tuple(
        named(envs[env], bucket, halves[part], tables) for (env, bucket), part in zip(places, parts, strict=True)
    )


def presence_of(batches: Iterable[SpanBatch]) -> dict[str, tuple[PresencePane, ...]]:
    """Who was heard in traces, by environment; late spans are not heard."""
    panes: dict[str, list[PresencePane]] = {}
    for batch in batches:
        seen: dict[tuple[str, int], list[Presence]] = {}
        groups = np.frombuffer(batch.groups, GROUP_DTYPE)
        groups = groups[groups["late"] == 0]
        for service, start_ms, count in groups[["service", "start_ms", "count"]].tolist():
            env, name = batch.services[service]
            seen.setdefault((env, start_ms), []).append(Presence("traces", name, count))
        for (env, start_ms), heard in seen.items():
            panes.setdefault(env, []).append(PresencePane(start_ms, tuple(heard), (batch.at,)))
    return {env: merge_presence(found) for env, found in sorted(panes.items())}


def _union(parts: Sequence[Sequence[T]]) -> tuple[list[T], _Ints]:
    """All values, distinct and ascending; and the place of each value of each part, one part after the other."""
    values = sorted({value for part in parts for value in part})
    place = {value: index for index, value in enumerate(values)}
    return values, np.array([place[value] for part in parts for value in part], dtype=np.int64)


def _joined(arrays: Sequence[_Records]) -> tuple[_Records, _Ints]:
    """The arrays one after the other, and for each element the number of its array."""
    return np.concatenate(arrays), np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])


def _offsets(parts: Sequence[Sequence[object]] | Sequence[_Records]) -> _Ints:
    return np.cumsum([0, *(len(part) for part in parts[:-1])])


def common(batches: Sequence[SpanBatch]) -> Columns:
    """Batches (at least one) side by side."""
    services, service_of = _union([batch.services for batch in batches])
    hosts, host_of = _union([batch.hosts for batch in batches])
    operations, operation_of = _union([batch.operations for batch in batches])
    facts, facts_of = _union([batch.facts for batch in batches])
    group_parts = [np.frombuffer(batch.groups, GROUP_DTYPE) for batch in batches]
    first_group, first_host, first_operation = (
        _offsets(parts)
        for parts in (group_parts, [batch.hosts for batch in batches], [batch.operations for batch in batches])
    )
    groups, batch_of = _joined(group_parts)
    groups["service"] = service_of[groups["service"] + _offsets([batch.services for batch in batches])[batch_of]]
    groups["facts"] = facts_of[groups["facts"] + _offsets([batch.facts for batch in batches])[batch_of]]
    tables_of_groups, group_of = _distinct_groups(groups)
    spans, exemplars, halves = (
        _joined([np.frombuffer(data, dtype) for data in parts])
        for parts, dtype in (
            ([batch.spans for batch in batches], SPAN_DTYPE),
            ([batch.exemplars for batch in batches], EXEMPLAR_DTYPE),
            ([batch.halves for batch in batches], HALF_DTYPE),
        )
    )
    for records, batch_of in (spans, exemplars):
        records["group"] = group_of[records["group"] + first_group[batch_of]]
        records["host"] = host_of[records["host"] + first_host[batch_of]]
        records["operation"] = operation_of[records["operation"] + first_operation[batch_of]]
    tables = _Tables(services, hosts, operations, facts, *tables_of_groups)
    return Columns(batches, tables, group_of, spans[0], groups, exemplars[0], _held(batches, tables, spans, halves))


def _held(
    batches: Sequence[SpanBatch], tables: _Tables, spans: tuple[_Records, _Ints], halves: tuple[_Records, _Ints]
) -> _Records:
    """Halves that say themselves what they said by the place of their span."""
    found, batch_of = halves
    held = np.zeros(len(found), HELD_DTYPE)
    for field in ("high", "low", "span", "parent", "end_ns", "duration_ns"):
        held[field] = found[field]
    first_span = np.searchsorted(spans[1], np.arange(len(batches)))
    of = spans[0][found["place"] + first_span[batch_of]]
    held["sent_ms"] = np.array([batch.sent_ms for batch in batches], np.int64)[batch_of]
    held["service"] = tables.service[of["group"]]
    for field in ("host", "operation", "error"):
        held[field] = of[field]
    return held


def _distinct_groups(groups: _Records) -> tuple[tuple[_Ints, _Ints, _Ints], _Ints]:
    """(start, late, service) of the distinct groups ascending by (service, start, late); the place of each group."""
    start_ms, late, service = (groups[name].astype(np.int64) for name in ("start_ms", "late", "service"))
    order = np.lexsort((late, start_ms, service))
    changed = np.ones(len(order), np.bool_)
    changed[1:] = np.any([column[order][1:] != column[order][:-1] for column in (start_ms, late, service)], axis=0)
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(changed) - 1
    first = order[changed]
    return (start_ms[first], late[first], service[first]), place


def _blocks(columns: Columns) -> Iterator[SpanBlock]:
    """The block of each group."""
    groups = len(columns.tables.service)
    rows = _rows(columns)
    exemplars = _exemplars(columns)
    facts = _newest_facts(columns)
    ranges = _ranges(columns)
    for index, ((row, next_row), (cell, next_cell)) in enumerate(
        zip(pairwise(rows.first_row), pairwise(rows.first_cell), strict=True)
    ):
        yield SpanBlock(
            keys=tuple(rows.keys[row:next_row]),
            errors=pack_counts(rows.errors[row:next_row]),
            sizes=rows.sizes[row:next_row].tobytes(),
            bins=rows.bins[cell:next_cell].tobytes(),
            counts=pack_counts(rows.counts[cell:next_cell]),
            facts=facts[index],
            slowest=tuple(exemplars[index]),
            sampled=tuple(exemplars[groups + index]),
            failing=tuple(exemplars[2 * groups + index]),
            ranges=ranges[index],
        )


class _Rows(NamedTuple):
    """Rows and cells of all groups; those of group g lie between first_row[g] and first_row[g + 1], likewise cells."""

    keys: list[RowKey]
    errors: _Ints
    sizes: NDArray[np.uint16]
    bins: NDArray[np.uint16]
    counts: _Ints
    first_row: list[int]
    first_cell: list[int]


def _rows(columns: Columns) -> _Rows:
    # One code orders rows as their keys are ordered: group, kind, dimension, then the place in an ascending table.
    spans, tables = columns.spans, columns.tables
    width = max(1, len(tables.hosts), len(tables.operations))
    in_kind = (spans["group"].astype(np.int64) * _KINDS + spans["kind"]) * _DIMENSIONS
    names = ((DIMENSION_SERVICE, 0), (DIMENSION_HOST, spans["host"]), (DIMENSION_OPERATION, spans["operation"]))
    codes = np.concatenate([(in_kind + dimension) * width + name for dimension, name in names])
    values, errors, row = _numbered(codes, np.tile(spans["error"], _DIMENSIONS))
    order = np.argsort(values)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    values = values[order]
    cells = np.sort((rank[row] << BIN_BITS) | np.tile(spans["bin"], _DIMENSIONS))
    starts = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1])))
    cells, counts = cells[starts], np.diff(starts, append=len(cells))
    first_row = np.searchsorted(values, np.arange(len(tables.service) + 1) * (_KINDS * _DIMENSIONS * width))
    cell_row = cells >> BIN_BITS
    by_dimension = ([""], tables.hosts, tables.operations)
    kinds = (values // (width * _DIMENSIONS) % _KINDS).tolist()
    where = zip(kinds, (values // width % _DIMENSIONS).tolist(), (values % width).tolist(), strict=True)
    return _Rows(
        keys=[(kind, dimension, by_dimension[dimension][place]) for kind, dimension, place in where],
        errors=errors[order],
        sizes=np.bincount(cell_row, minlength=len(values)).astype("<u2"),
        bins=(cells & ((1 << BIN_BITS) - 1)).astype("<u2"),
        counts=counts,
        first_row=first_row.tolist(),
        first_cell=np.searchsorted(cell_row, first_row).tolist(),
    )


def _numbered(codes: _Ints, error: NDArray[np.uint8]) -> tuple[_Ints, _Ints, NDArray[np.int32]]:
    """Distinct codes by first appearance, their errors, and for each code its number. O(n)."""
    row = np.empty(len(codes), np.int32)
    size = _ROWS_FIRST
    while True:
        keys, errors = np.empty(size, np.int64), np.zeros(size, np.int64)
        found = intern_rows(codes, error, keys, errors, table(size), row)
        if found >= 0:
            return keys[:found], errors[:found], row
        size *= 4


def _newest_facts(columns: Columns) -> list[ServiceInfo]:
    """The attributes of each group."""
    groups, tables = columns.groups, columns.tables
    return newest_info(
        len(tables.service), columns.group_of, groups["newest_ms"], groups["facts"].astype(np.int64), tables.facts
    )


def _ranges(columns: Columns) -> list[tuple[OffsetRange, ...]]:
    found: list[list[OffsetRange]] = [[] for _ in columns.tables.service]
    places = iter(columns.group_of.tolist())
    for batch in columns.batches:
        for _ in range(len(batch.groups) // GROUP_DTYPE.itemsize):
            found[next(places)].append(batch.at)
    return [merge_ranges(ranges) for ranges in found]


def _exemplars(columns: Columns) -> list[list[Exemplar]]:
    """The slowest of each group, then the sampled, then the failing of each group."""
    groups, tables = len(columns.tables.service), columns.tables
    roles = (1 << columns.exemplars["role"]).astype(np.uint8)
    kept = exemplars_of(columns.exemplars, roles, groups)
    found: list[list[Exemplar]] = [[] for _ in range(3 * groups)]
    traces = kept[["high", "low"]].astype([("high", ">u8"), ("low", ">u8")]).tobytes().hex()
    fields = ["role", "group", "duration_ns", "host", "operation"]
    for index, (role, group, duration_ns, host, operation) in enumerate(kept[fields].tolist()):
        trace_id = traces[32 * index : 32 * index + 32]
        exemplar = Exemplar(duration_ns, trace_id, tables.hosts[host], tables.operations[operation])
        found[role * groups + group].append(exemplar)
    return found
