"""Merge of span tables, and access to their rows.

The result of a merge depends only on the *set* of spans in its inputs: order, grouping and nesting do not matter. This
is also true of the limit on names: the names with the smallest hashes among all names are kept, so a name that is kept
in the union was kept in every part of it.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Final
from zlib import crc32

import msgspec
import numpy as np

from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.spans import CALL_DIMENSIONS, Dimension, Exemplar, Series, SpanTable
from state_schemas.telemetry.spans import ENTRY_KINDS
from udfs.activity import merge_ranges
from udfs.service_info import merge_info
from udfs.spans.kernels import SAMPLED_MAX, SLOWEST_MAX
from udfs.spans.sketches import Sketch, Sketches, merge_sketches
from udfs.stats.duration_histogram import BIN_BITS, BIN_OVER

COARSE: Final = 4  # bins of hosts and operations merged into one for detection: 8 % wide, a quarter of the state


@dataclass(frozen=True, slots=True)
class NameLimits:
    """Number of names that a window keeps in each dimension; further ones are counted under `other`."""

    hosts_max: int = 200
    operations_max: int = 200
    callees_max: int = 200

    @property
    def least(self) -> int:
        """The smallest limit: tables with no more rows than this together have no name beyond any limit."""
        return min(self.hosts_max, self.operations_max, self.callees_max)

    def of(self, dimension: Dimension) -> int:
        """Return the limit of a dimension other than `Dimension.SERVICE`."""
        if dimension in CALL_DIMENSIONS:
            return self.callees_max
        return self.hosts_max if dimension is Dimension.HOST else self.operations_max


def rows(table: SpanTable) -> Iterator[tuple[Series, Sketch]]:
    """Yield the rows of a table in key order. O(rows + bins)."""
    return Sketches.unpack(table.sketches).items()


def span_count(table: SpanTable) -> int:
    """Count the spans in the table, each once."""
    return sum(sketch.spans for series, sketch in rows(table) if series.dimension is Dimension.SERVICE)


def merge_span_tables(tables: Sequence[SpanTable], limits: NameLimits, keep: Series | None = None) -> SpanTable:
    """Merge `tables` (at least one). O(rows + bins log bins).

    keep: series whose name is not counted under `other` in any case.
    """
    assert tables, "no tables to merge, expected at least one; leave the window out instead"
    renamed = _renamed(tables, limits, keep)
    if len(tables) == 1 and not renamed:
        return tables[0]
    dropped = {series.name for series in renamed if series.dimension is Dimension.CALLEE}
    return SpanTable(
        sketches=merge_sketches([Sketches.unpack(table.sketches) for table in tables], renamed).pack(),
        info=merge_info(table.info for table in tables),
        slowest=merge_slowest(exemplar for table in tables for exemplar in table.slowest),
        sampled=merge_sampled(exemplar for table in tables for exemplar in table.sampled),
        failing=merge_slowest(exemplar for table in tables for exemplar in table.failing),
        ranges=merge_ranges(part for table in tables for part in table.ranges),
        calls=merge_calls((call for table in tables for call in table.calls), dropped),
        network_times=merge_calls((call for table in tables for call in table.network_times), dropped),
    )


def _renamed(tables: Sequence[SpanTable], limits: NameLimits, keep: Series | None) -> dict[Series, Series]:
    """Return the series to count under `other` because their dimension holds too many names.

    Entry spans and other spans have separate limits: the names that detection uses must not depend on other spans. A
    callee is kept in all dimensions or in none.
    """
    if sum(len(table.keys) for table in tables) <= limits.least:
        return {}
    found = {series for table in tables for series in table.keys}
    names: dict[tuple[Dimension, bool], set[str]] = {}
    for series in found:
        if series.dimension is not Dimension.SERVICE:
            names.setdefault((_name_pool(series.dimension), series.kind in ENTRY_KINDS), set()).add(series.name)
    dropped: set[tuple[Dimension, bool, str]] = set()
    for (pool, is_entry), seen in names.items():
        seen.discard(OTHER)
        if len(seen) > limits.of(pool):
            kept = set(nsmallest(limits.of(pool), seen, key=_name_rank))
            if keep is not None and _name_pool(keep.dimension) is pool:
                kept.add(keep.name)
            dropped.update((pool, is_entry, name) for name in seen - kept)
    if not dropped:
        return {}
    return {
        series: Series(series.kind, series.dimension, OTHER)
        for series in found
        if (_name_pool(series.dimension), series.kind in ENTRY_KINDS, series.name) in dropped
    }


def _name_pool(dimension: Dimension) -> Dimension:
    """Return the dimension whose limit applies: the dimensions of calls share one."""
    return Dimension.CALLEE if dimension > Dimension.CALLEE else dimension


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


def merge_calls(
    calls: Iterable[tuple[str, Exemplar]], dropped: Container[str] = ()
) -> tuple[tuple[str, Exemplar], ...]:
    """Return the longest call to each callee, ascending by callee; of ties the greater trace id.

    dropped: callees that count as `other`.
    """
    longest: dict[str, Exemplar] = {}
    for callee, exemplar in calls:
        name = OTHER if callee in dropped else callee
        longest[name] = max(exemplar, longest.get(name, exemplar))
    return tuple(sorted(longest.items()))


def entry_table(table: SpanTable) -> SpanTable:
    """Return the rows that detection keeps of a window: entry spans of any kind added up, and calls.

    The kind of all keys is ANY_KIND. All rows except that of the service have coarse bins: one bin, the middle one, for
    each COARSE bins, so that counts above a multiple of COARSE are exact. The table may have no rows; its info and
    ranges still count, because else the result of a merge would depend on the grouping of its inputs.
    """
    found = Sketches.unpack(table.sketches)
    renamed = {series: series.of_any_kind() for series in found.keys if _is_watched(series)}
    found = found.only(renamed)
    is_service = np.array([series.dimension is Dimension.SERVICE for series in found.keys], np.bool_)
    middles = np.minimum(found.bins // COARSE * COARSE + COARSE // 2, BIN_OVER)
    bins = np.where(is_service[found.row], found.bins, middles)
    coarse = replace(found, codes=(found.row << BIN_BITS) | bins)
    return msgspec.structs.replace(table, sketches=merge_sketches([coarse], renamed).pack())


def _is_watched(series: Series) -> bool:
    if series.dimension in CALL_DIMENSIONS:
        return series.dimension in (Dimension.CALLEE, Dimension.NETWORK_TIME)
    return series.kind in ENTRY_KINDS


def table_bytes(table: SpanTable) -> int:
    """Return the approximate size of a table in state, in bytes."""
    packed = table.sketches
    names = sum(len(series.name) + 5 for series in packed.keys)
    return names + sum(map(len, (packed.errors, packed.sizes, packed.bins, packed.counts)))
