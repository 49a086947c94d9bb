"""The accepted spans of one message, grouped by service, pane and lateness: each group becomes a `SpanBlock`.

Everything is computed for all groups at once; a message of 1,000 spans in 20 groups then costs a few numpy calls, not
hundreds for each group.
"""

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from state_schemas.partials import (
    DIMENSION_HOST,
    DIMENSION_OPERATION,
    DIMENSION_SERVICE,
    DIMENSIONS,
    Exemplar,
    OffsetRange,
    RowKey,
    ServiceFacts,
    SpanBlock,
)
from state_schemas.telemetry import KIND_CONSUMER, KIND_SERVER, SPAN_KINDS, SpanColumns
from udfs.partials import SAMPLED_MAX, SLOWEST_MAX, merge_sampled, merge_slowest
from udfs.resource import short_name
from udfs.sketch import BIN_BITS, bins_of

ENTRY_KINDS = frozenset((KIND_SERVER, KIND_CONSUMER))  # what a service answers: its latency is these spans' duration
T = TypeVar("T", str, tuple[str, str], tuple[str, str, str, str])
_Ints = NDArray[np.int64]


class Group(NamedTuple):
    """One block with its place. service: (env, service)."""

    service: tuple[str, str]
    pane_start_ms: int
    late: bool
    block: SpanBlock


class _Columns(NamedTuple):
    """Spans in group order; `group` counts from 0. host, name and facts are places in tables that ascend."""

    group: _Ints
    kind: _Ints
    duration: _Ints
    end_ms: _Ints
    host: _Ints
    name: _Ints
    facts: _Ints
    error: NDArray[np.bool_]
    trace_id: NDArray[np.uint8]


class _Tables(NamedTuple):
    hosts: list[str]
    names: list[str]
    facts: list[tuple[str, str, str, str]]


def group_spans(
    spans: SpanColumns, chosen: _Ints, bounds_ms: tuple[int, int], offsets: tuple[OffsetRange, ...]
) -> list[Group]:
    """Groups of the chosen spans (at least one), ascending by service, pane and lateness.

    bounds_ms: length of a pane, and the event time before which a span is late. O(spans log spans).
    """
    pane_ms, late_before_ms = bounds_ms
    resources = spans.resources
    service_of, services = _index([(r.env, r.service) for r in resources])
    host_of, hosts = _index([r.host for r in resources])
    facts_of, facts = _index([(r.version, r.image, r.container, r.site_id) for r in resources])
    name_of, names = _index([short_name(name) for name in spans.names])
    end_ns = spans.end_ns[chosen].astype(np.int64)
    end_ms = end_ns // 1_000_000
    resource = spans.resource[chosen]
    pane_values, pane = np.unique(end_ms - end_ms % pane_ms, return_inverse=True)
    place = (service_of[resource] * len(pane_values) + pane) * 2 + (end_ms < late_before_ms)
    order = np.argsort(place, kind="stable")
    places, group = np.unique(place[order], return_inverse=True)
    chosen, resource = chosen[order], resource[order]
    columns = _Columns(
        group=group,
        kind=spans.kind[chosen].astype(np.int64),
        duration=end_ns[order] - spans.start_ns[chosen].astype(np.int64),
        end_ms=end_ms[order],
        host=host_of[resource],
        name=name_of[spans.name[chosen]],
        facts=facts_of[resource],
        error=spans.error[chosen],
        trace_id=spans.trace_id[chosen],
    )
    blocks = _blocks(columns, _Tables(hosts, names, facts), len(places), offsets)
    return [
        Group(services[at // 2 // len(pane_values)], int(pane_values[at // 2 % len(pane_values)]), bool(at % 2), block)
        for at, block in zip(places.tolist(), blocks, strict=True)
    ]


def _index(values: list[T]) -> tuple[_Ints, list[T]]:
    """For each value its place among the distinct ones, which are returned ascending."""
    distinct = sorted(set(values))
    place = {value: index for index, value in enumerate(distinct)}
    return np.array([place[value] for value in values], dtype=np.int64), distinct


def _blocks(columns: _Columns, tables: _Tables, groups: int, offsets: tuple[OffsetRange, ...]) -> list[SpanBlock]:
    rows = _rows(columns, tables, groups)
    slowest, sampled = _exemplars(columns, tables, groups)
    facts = _newest_facts(columns, tables)
    return [
        SpanBlock(
            keys=tuple(rows.keys[rows.first_row[index] : rows.first_row[index + 1]]),
            errors=rows.errors[rows.first_row[index] : rows.first_row[index + 1]].tobytes(),
            bins=rows.bins[rows.first_cell[index] : rows.first_cell[index + 1]].tobytes(),
            counts=rows.counts[rows.first_cell[index] : rows.first_cell[index + 1]].tobytes(),
            facts=facts[index],
            slowest=merge_slowest(slowest[index]),
            sampled=merge_sampled(sampled[index]),
            ranges=offsets,
        )
        for index in range(groups)
    ]


class _Rows(NamedTuple):
    """Rows and cells of all groups; those of group g lie between first_row[g] and first_row[g + 1], likewise cells."""

    keys: list[RowKey]
    errors: _Ints
    bins: NDArray[np.uint32]
    counts: _Ints
    first_row: list[int]
    first_cell: list[int]


def _rows(columns: _Columns, tables: _Tables, groups: int) -> _Rows:
    # One code orders rows as their keys are ordered: group, kind, dimension, then the place in an ascending table.
    names = (np.zeros_like(columns.group), columns.host, columns.name)
    width = max(1, len(tables.hosts), len(tables.names))
    in_kind = (columns.group * len(SPAN_KINDS) + columns.kind) * len(DIMENSIONS)
    dimensions = (DIMENSION_SERVICE, DIMENSION_HOST, DIMENSION_OPERATION)
    codes = [(in_kind + d) * width + name for d, name in zip(dimensions, names, strict=True)]
    values, row = np.unique(np.concatenate(codes), return_inverse=True)
    bins = np.tile(bins_of(columns.duration), len(dimensions))
    cells, counts = np.unique((row << BIN_BITS) | bins, return_counts=True)
    errors = np.bincount(row, weights=np.tile(columns.error, len(dimensions)), minlength=len(values))
    row_group = values // (len(SPAN_KINDS) * len(DIMENSIONS) * width)
    first_row = np.searchsorted(row_group, np.arange(groups + 1))
    cell_row = cells >> BIN_BITS
    local = cells - (first_row[row_group[cell_row]] << BIN_BITS)
    by_dimension = ([""], tables.hosts, tables.names)
    kinds = (values // (width * len(DIMENSIONS)) % len(SPAN_KINDS)).tolist()
    where = zip(kinds, (values // width % len(DIMENSIONS)).tolist(), (values % width).tolist(), strict=True)
    return _Rows(
        keys=[(kind, dimension, by_dimension[dimension][place]) for kind, dimension, place in where],
        errors=errors.astype("<i8"),
        bins=local.astype("<u4"),
        counts=counts.astype("<i8"),
        first_row=first_row.tolist(),
        first_cell=np.searchsorted(cell_row, first_row).tolist(),
    )


def _newest_facts(columns: _Columns, tables: _Tables) -> list[ServiceFacts]:
    """For each group what its newest span says; ties go to the greater facts, as their table ascends."""
    starts = np.flatnonzero(np.diff(columns.group, prepend=-1))
    newest = np.maximum.reduceat(columns.end_ms * len(tables.facts) + columns.facts, starts)
    return [ServiceFacts(at // len(tables.facts), *tables.facts[at % len(tables.facts)]) for at in newest.tolist()]


def _exemplars(columns: _Columns, tables: _Tables, groups: int) -> tuple[list[list[Exemplar]], list[list[Exemplar]]]:
    """For each group the candidates for its slowest and its sampled entry spans, ties included."""
    is_entry = np.isin(columns.kind, list(ENTRY_KINDS))
    entry = np.flatnonzero(is_entry & columns.trace_id.any(axis=1))
    if not len(entry):
        return [[] for _ in range(groups)], [[] for _ in range(groups)]
    group, shorter = columns.group[entry], -columns.duration[entry]
    words = np.ascontiguousarray(columns.trace_id[entry]).view(">u8").astype(np.uint64)
    high, low = words[:, 0], words[:, 1]
    by_length = np.lexsort((low, high, shorter, group))
    longest = by_length[_rank(group, (shorter, high, low), by_length) < SLOWEST_MAX]
    by_trace = np.lexsort((shorter, low, high, group))
    in_trace = _changes((group, high, low), by_trace)
    # Of a trace only its longest spans; the first of each trace is one of them, as the order is by length within it.
    length = shorter[by_trace]
    is_longest = length == length[np.flatnonzero(in_trace)][np.cumsum(in_trace) - 1]
    smallest = by_trace[(_rank(group, (high, low), by_trace) < SAMPLED_MAX) & is_longest]
    slowest, sampled = (_by_group(columns, tables, entry[picked], groups) for picked in (longest, smallest))
    return slowest, sampled


def _changes(columns: tuple[NDArray[np.generic], ...], order: _Ints) -> NDArray[np.bool_]:
    """True where any column differs from the row before, and at the first row."""
    changed = np.ones(len(order), np.bool_)
    changed[1:] = False
    for column in columns:
        ordered = column[order]
        changed[1:] |= ordered[1:] != ordered[:-1]
    return changed


def _rank(group: _Ints, columns: tuple[NDArray[np.generic], ...], order: _Ints) -> _Ints:
    """Rank of each row of `order` within its group, equal rows with equal rank, from 0."""
    dense = np.cumsum(_changes((group, *columns), order))
    starts = np.flatnonzero(_changes((group,), order))
    ranks: _Ints = dense - np.repeat(dense[starts], np.diff(np.append(starts, len(order))))
    return ranks


def _by_group(columns: _Columns, tables: _Tables, picked: _Ints, groups: int) -> list[list[Exemplar]]:
    found: list[list[Exemplar]] = [[] for _ in range(groups)]
    for index in picked.tolist():
        found[columns.group[index]].append(
            Exemplar(
                int(columns.duration[index]),
                columns.trace_id[index].tobytes().hex(),
                tables.hosts[columns.host[index]],
                tables.names[columns.name[index]],
            )
        )
    return found
