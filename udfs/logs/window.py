"""Merge of log tables: exact, associative and commutative, as the merge of span tables is."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from typing import Final
from zlib import crc32

from state_schemas.aggregates.logs import OTHER_PATTERNS, LineAggregate, LogAggregate, LogTable, PatternCount
from state_schemas.aggregates.names import OTHER
from udfs.activity import merge_ranges
from udfs.logs.template import merge_texts
from udfs.service_info import merge_info

__all__ = [
    "HOSTS_MAX",
    "SAMPLES_MAX",
    "line_count",
    "merge_counts",
    "merge_log_aggregates",
    "merge_log_tables",
    "with_ordinary_as_one",
]

SAMPLES_MAX: Final = 3
HOSTS_MAX: Final = 20  # of one pattern


def merge_log_tables(tables: Sequence[LogTable]) -> LogTable:
    """Merge tables, at least one. O(patterns)."""
    if len(tables) == 1:
        return tables[0]
    found: dict[tuple[bool, str], PatternCount] = {}
    for table in tables:
        for pattern in table.patterns:
            key = (pattern.severe, pattern.pattern_id)
            known = found.get(key)
            found[key] = pattern if known is None else merge_counts(known, pattern)
    return LogTable(
        tuple(pattern for _, pattern in sorted(found.items())),
        sum(table.severe_lines for table in tables),
        merge_info(table.info for table in tables),
        merge_ranges(part for table in tables for part in table.ranges),
    )


def merge_counts(left: PatternCount, right: PatternCount) -> PatternCount:
    """Merge two counts of one pattern."""
    assert left.pattern_id == right.pattern_id, f"{left.pattern_id} and {right.pattern_id} are two patterns"
    texts = merge_texts(left.texts, right.texts) if left.texts and right.texts else left.texts or right.texts
    return PatternCount(
        left.severe,
        left.pattern_id,
        left.count + right.count,
        max(left.severity, right.severity),
        texts,
        _merge_hosts(left.hosts, right.hosts),
        tuple(sorted({*left.samples, *right.samples})[:SAMPLES_MAX]),
        left.versions if left.versions == right.versions else tuple(sorted({*left.versions, *right.versions})[:2]),
    )


def merge_log_aggregates(aggregates: Iterable[LineAggregate]) -> list[LogAggregate]:
    """Return one aggregate for each service, in key order."""
    found: dict[tuple[str, str], dict[tuple[int, bool], list[LogTable]]] = {}
    for aggregate in aggregates:
        windows = found.setdefault((aggregate.env, aggregate.service), {})
        for start_ms, late, table in aggregate.windows:
            windows.setdefault((start_ms, late), []).append(table)
    return [
        LogAggregate(env, service, tuple((*key, merge_log_tables(tables)) for key, tables in sorted(windows.items())))
        for (env, service), windows in sorted(found.items())
    ]


def with_ordinary_as_one(aggregates: Iterable[LogAggregate]) -> Iterator[LogAggregate]:
    """Yield the aggregates with all lines of a table that are not severe as one count."""
    for aggregate in aggregates:
        windows = tuple((start_ms, late, _with_ordinary_as_one(table)) for start_ms, late, table in aggregate.windows)
        yield LogAggregate(aggregate.env, aggregate.service, windows)


def _with_ordinary_as_one(table: LogTable) -> LogTable:
    ordinary = sum(counted.count for counted in table.patterns if not counted.severe)
    severe = tuple(counted for counted in table.patterns if counted.severe)
    rest = (PatternCount(False, OTHER_PATTERNS, ordinary, 0, ()),) if ordinary else ()
    return LogTable((*rest, *severe), table.severe_lines, table.info, table.ranges)


def line_count(table: LogTable) -> int:
    return sum(pattern.count for pattern in table.patterns)


def _merge_hosts(left: tuple[tuple[str, int], ...], right: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """Add up lines by host; of more than HOSTS_MAX names keep the lowest hashes, so that order does not matter."""
    if not left or not right:
        return left or right
    found = dict(left)
    for name, lines in right:
        found[name] = found.get(name, 0) + lines
    names = [name for name in found if name != OTHER]
    if len(names) > HOSTS_MAX:
        kept = set(nsmallest(HOSTS_MAX, names, key=lambda name: (crc32(name.encode()), name)))
        beyond = sum(lines for name, lines in found.items() if name not in kept)
        found = {name: lines for name, lines in found.items() if name in kept} | {OTHER: beyond}
    return tuple(sorted(found.items()))
