"""Merge of span tables, and access to their rows.

The result of a merge depends only on the *set* of spans in its inputs: order, grouping and nesting do not matter. This
is also true of the limit on names: the names with the smallest hashes among all names are kept, so a name that is kept
in the union was kept in every part of it.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final, NamedTuple
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.spans import (
    CALL_DIMENSIONS,
    DIMENSION_CALLEE,
    DIMENSION_NETWORK_TIME,
    DIMENSION_SERVICE,
    Exemplar,
    RowKey,
    SpanAggregate,
    SpanTable,
)
from state_schemas.telemetry.spans import ENTRY_KINDS
from udfs.activity import merge_ranges
from udfs.service_info import merge_info
from udfs.spans.kernels import SAMPLED_MAX, SLOWEST_MAX
from udfs.stats.duration_histogram import BIN_BITS, BIN_OVER

COARSE: Final = 4  # bins of hosts and operations merged into one for detection: 8 % wide, a quarter of the state

BIN_MASK: Final = (1 << BIN_BITS) - 1


class Row(NamedTuple):
    """One row of a table, with its sketch. spans = counts.sum()."""

    key: RowKey
    spans: int
    errors: int
    bins: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NameLimits:
    """Number of names that a window keeps in each dimension; further ones are counted under `other`."""

    hosts_max: int = 200
    operations_max: int = 200
    callees_max: int = 200

    def of(self, dimension: int) -> int:
        """Return the limit of a dimension other than `DIMENSION_SERVICE`."""
        return self.callees_max if dimension in CALL_DIMENSIONS else (0, self.hosts_max, self.operations_max)[dimension]


def pack_counts(values: NDArray[np.int64]) -> bytes:
    """Encode counts in the smallest width that holds all of them: see `SpanTable`."""
    largest = int(values.max()) if len(values) else 0
    width = "<u1" if largest < 1 << 8 else "<u2" if largest < 1 << 16 else "<u4" if largest < 1 << 32 else "<u8"
    return values.astype(width).tobytes()


def unpack_counts(data: bytes, length: int) -> NDArray[np.int64]:
    """Decode the counts of `pack_counts`."""
    if not length:
        return np.empty(0, np.int64)
    return np.frombuffer(data, f"<u{len(data) // length}").astype(np.int64)


class Cells(NamedTuple):
    """Arrays of a table: errors (n,); row, bin and count of each cell (m,)."""

    errors: NDArray[np.int64]
    row: NDArray[np.int64]
    bins: NDArray[np.int64]
    counts: NDArray[np.int64]


def cells_of(table: SpanTable) -> Cells:
    """Decode the arrays of a table. They belong to the receiver."""
    bins = np.frombuffer(table.bins, "<u2").astype(np.int64)
    row = np.repeat(np.arange(len(table.keys)), np.frombuffer(table.sizes, "<u2"))
    return Cells(unpack_counts(table.errors, len(table.keys)), row, bins, unpack_counts(table.counts, len(bins)))


def rows(table: SpanTable) -> Iterator[Row]:
    """Yield the rows of a table in key order. O(rows + bins)."""
    cells = cells_of(table)
    ends = np.cumsum(np.frombuffer(table.sizes, "<u2").astype(np.int64)).tolist()
    start = 0
    for key, errors, end in zip(table.keys, cells.errors.tolist(), ends, strict=True):
        part = cells.counts[start:end]
        yield Row(key, int(part.sum()), errors, cells.bins[start:end], part)
        start = end


def span_count(table: SpanTable) -> int:
    """Count the spans in the table, each once."""
    of_service = np.array([dimension == DIMENSION_SERVICE for _, dimension, _ in table.keys], np.bool_)
    cells = cells_of(table)
    return int(cells.counts[of_service[cells.row]].sum())


def merge_span_tables(
    tables: Sequence[SpanTable], limits: NameLimits, keep: tuple[int, str] | None = None
) -> SpanTable:
    """Merge `tables` (at least one). O(rows + bins log bins).

    keep: (dimension, name) that is not counted under `other` in any case.
    """
    assert tables, "no tables to merge, expected at least one; leave the window out instead"
    renamed = _kept_names(tables, limits, keep)
    if len(tables) == 1 and not renamed:
        return tables[0]
    dropped = {name for _, dimension, name in renamed if dimension == DIMENSION_CALLEE}
    keys = sorted({renamed.get(key, key) for table in tables for key in table.keys})
    index = {key: position for position, key in enumerate(keys)}
    errors = np.zeros(len(keys), np.int64)
    codes, counts = [], []
    for table in tables:
        row_of = np.array([index[renamed.get(key, key)] for key in table.keys], dtype=np.int64)
        cells = cells_of(table)
        np.add.at(errors, row_of, cells.errors)
        codes.append((row_of[cells.row] << BIN_BITS) | cells.bins)
        counts.append(cells.counts)
    merged, sums = sum_by_code(np.concatenate(codes), np.concatenate(counts))
    return SpanTable(
        keys=tuple(keys),
        errors=pack_counts(errors),
        sizes=np.bincount(merged >> BIN_BITS, minlength=len(keys)).astype("<u2").tobytes(),
        bins=(merged & BIN_MASK).astype("<u2").tobytes(),
        counts=pack_counts(sums),
        info=merge_info(table.info for table in tables),
        slowest=merge_slowest(exemplar for table in tables for exemplar in table.slowest),
        sampled=merge_sampled(exemplar for table in tables for exemplar in table.sampled),
        failing=merge_slowest(exemplar for table in tables for exemplar in table.failing),
        ranges=merge_ranges(part for table in tables for part in table.ranges),
        calls=_merge_calls(dropped, (call for table in tables for call in table.calls)),
        network_times=_merge_calls(dropped, (call for table in tables for call in table.network_times)),
    )


def bounded(table: SpanTable, limits: NameLimits) -> SpanTable:
    """Return the table with names beyond the limits under `other`."""
    return merge_span_tables([table], limits)


def sum_by_code(codes: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct codes, ascending, with the sum of their counts."""
    if not len(codes):
        return codes, counts
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
    return codes[starts], np.add.reduceat(counts, starts)


def _kept_names(
    tables: Sequence[SpanTable], limits: NameLimits, keep: tuple[int, str] | None = None
) -> dict[RowKey, RowKey]:
    """Return the rows to rename to `other` because their dimension holds too many names.

    Entry spans and other spans have separate limits: the names that detection uses must not depend on other spans. A
    callee is kept in all dimensions or in none.
    """
    names: dict[tuple[int, bool], set[str]] = {}
    for table in tables:
        for kind, dimension, name in table.keys:
            if dimension != DIMENSION_SERVICE:
                names.setdefault((_name_pool(dimension), kind in ENTRY_KINDS), set()).add(name)
    dropped: set[tuple[int, bool, str]] = set()
    kept_in_any_case = (_name_pool(keep[0]), keep[1]) if keep else None
    for (pool, is_entry), seen in names.items():
        seen.discard(OTHER)
        if len(seen) > limits.of(pool):
            kept = set(nsmallest(limits.of(pool), seen, key=_name_rank))
            dropped.update((pool, is_entry, name) for name in seen - kept if (pool, name) != kept_in_any_case)
    if not dropped:
        return {}
    return {
        (kind, dimension, name): (kind, dimension, OTHER)
        for table in tables
        for kind, dimension, name in table.keys
        if (_name_pool(dimension), kind in ENTRY_KINDS, name) in dropped
    }


def _name_pool(dimension: int) -> int:
    """Return the dimension whose limit applies: the dimensions of calls share one."""
    return min(dimension, DIMENSION_CALLEE)


def _name_rank(name: str) -> tuple[int, str]:
    # By hash, not by alphabet: names made by an attacker or with deployment ids must not displace one end of the list.
    return crc32(name.encode()), name


def merge_slowest(exemplars: Iterable[Exemplar]) -> tuple[Exemplar, ...]:
    """Return the longest spans, longest first, ties by trace id; the order of the input does not matter."""
    distinct = set(exemplars)
    return tuple(nsmallest(SLOWEST_MAX, distinct, key=lambda e: (-e.duration_ns, e.trace_id, e.host, e.operation)))


def merge_sampled(exemplars: Iterable[Exemplar]) -> tuple[Exemplar, ...]:
    """Return the longest span of each of the smallest trace ids, ascending by trace id."""
    longest: dict[str, Exemplar] = {}
    for exemplar in exemplars:
        longest[exemplar.trace_id] = max(exemplar, longest.get(exemplar.trace_id, exemplar))
    return tuple(longest[trace_id] for trace_id in nsmallest(SAMPLED_MAX, longest))


def merge_calls(calls: Iterable[tuple[str, Exemplar]]) -> tuple[tuple[str, Exemplar], ...]:
    """Return the longest call to each callee, ascending by callee; of ties the greater trace id."""
    longest: dict[str, Exemplar] = {}
    for callee, exemplar in calls:
        longest[callee] = max(exemplar, longest.get(callee, exemplar))
    return tuple(sorted(longest.items()))


def _merge_calls(dropped: set[str], calls: Iterable[tuple[str, Exemplar]]) -> tuple[tuple[str, Exemplar], ...]:
    """Return the longest call to each callee, with dropped callees under `other`."""
    return merge_calls((OTHER if callee in dropped else callee, exemplar) for callee, exemplar in calls)


def merge_aggregates(aggregates: Sequence[SpanAggregate], limits: NameLimits) -> SpanAggregate:
    """Merge aggregates of one service (at least one)."""
    windows: dict[tuple[int, bool], list[SpanTable]] = {}
    for aggregate in aggregates:
        for start_ms, late, table in aggregate.windows:
            windows.setdefault((start_ms, late), []).append(table)
    return SpanAggregate(
        env=aggregates[0].env,
        service=aggregates[0].service,
        windows=tuple((*window, merge_span_tables(windows[window], limits)) for window in sorted(windows)),
    )


def entry_table(table: SpanTable, kinds: frozenset[int]) -> SpanTable:
    """Return the rows that detection keeps of a window: spans of these kinds, added up over kinds, and calls.

    Keys are (0, dimension, name). All rows except that of the service have coarse bins: one bin, the middle one, for
    each COARSE bins, so that counts above a multiple of COARSE are exact. The table may have no rows; its info and
    ranges still count, because else the result of a merge would depend on the grouping of its inputs.
    """
    wanted = [
        dimension in (DIMENSION_CALLEE, DIMENSION_NETWORK_TIME) or (kind in kinds and dimension not in CALL_DIMENSIONS)
        for kind, dimension, _ in table.keys
    ]
    keys = sorted({(0, *key[1:]) for key, want in zip(table.keys, wanted, strict=True) if want})
    index = {key: position for position, key in enumerate(keys)}
    row_of = np.array([index.get((0, *key[1:]), 0) for key in table.keys], dtype=np.int64)
    kept = np.array(wanted, np.bool_)
    coarse = np.array([dimension != DIMENSION_SERVICE for _, dimension, _ in table.keys], np.bool_)
    cells = cells_of(table)
    errors = np.zeros(len(keys), np.int64)
    np.add.at(errors, row_of[kept], cells.errors[kept])
    bins = np.where(coarse[cells.row], np.minimum(cells.bins // COARSE * COARSE + COARSE // 2, BIN_OVER), cells.bins)
    of_kept = kept[cells.row]
    merged, sums = sum_by_code(((row_of[cells.row] << BIN_BITS) | bins)[of_kept], cells.counts[of_kept])
    return msgspec.structs.replace(
        table,
        keys=tuple(keys),
        errors=pack_counts(errors),
        sizes=np.bincount(merged >> BIN_BITS, minlength=len(keys)).astype("<u2").tobytes(),
        bins=(merged & BIN_MASK).astype("<u2").tobytes(),
        counts=pack_counts(sums),
    )


def only_rows(table: SpanTable, wanted: Container[RowKey]) -> SpanTable:
    """Return the rows of some keys, with all exemplars and offsets of the table."""
    return from_rows([row for row in rows(table) if row.key in wanted], table)


def from_rows(kept: Sequence[Row], like: SpanTable) -> SpanTable:
    """Return a table of these rows (ascending, distinct), with the exemplars and offsets of `like`."""
    none = np.empty(0, np.int64)
    return msgspec.structs.replace(
        like,
        keys=tuple(row.key for row in kept),
        errors=pack_counts(np.array([row.errors for row in kept], np.int64)),
        sizes=np.array([len(row.bins) for row in kept], "<u2").tobytes(),
        bins=np.concatenate([row.bins for row in kept] or [none]).astype("<u2").tobytes(),
        counts=pack_counts(np.concatenate([row.counts for row in kept] or [none])),
    )


def table_bytes(table: SpanTable) -> int:
    """Return the approximate size of a table in state, in bytes."""
    names = sum(len(name) + 5 for _, _, name in table.keys)
    return names + sum(map(len, (table.errors, table.sizes, table.bins, table.counts)))


def merge_rows(found: Sequence[Row]) -> Row:
    """Return the sum of rows (at least one) under the key of the first."""
    bins, counts = sum_by_code(
        np.concatenate([row.bins for row in found]), np.concatenate([row.counts for row in found])
    )
    return Row(found[0].key, int(counts.sum()), sum(row.errors for row in found), bins, counts)


def row_of(table: SpanTable, dimension: int, name: str) -> Row:
    """Return all spans of one name, added up over span kinds; a row without spans where the table has none."""
    same_name = [row for row in rows(table) if row.key[1:] == (dimension, name)]
    none = np.empty(0, np.int64)
    return merge_rows(same_name) if same_name else Row((0, dimension, name), 0, 0, none, none)
