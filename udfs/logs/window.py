"""Merging of log blocks: exact, associative and commutative, like that of span blocks."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from typing import Final
from zlib import crc32

from state_schemas.aggregates.logs import OTHER_PATTERNS, LinePartial, LogBlock, LogPartial, PatternCount
from state_schemas.aggregates.names import OTHER
from udfs.activity import merge_ranges
from udfs.logs.template import merge_texts
from udfs.service_info import merge_info

__all__ = [
    "HOSTS_MAX",
    "SAMPLES_MAX",
    "line_count",
    "merge_counts",
    "merge_log_blocks",
    "merge_log_partials",
    "without_quiet",
]

SAMPLES_MAX: Final = 3
HOSTS_MAX: Final = 20  # of one pattern


def merge_log_blocks(blocks: Sequence[LogBlock]) -> LogBlock:
    """All lines of the blocks; at least one. O(patterns)."""
    if len(blocks) == 1:
        return blocks[0]
    found: dict[tuple[bool, str], PatternCount] = {}
    for block in blocks:
        for pattern in block.patterns:
            key = (pattern.loud, pattern.pattern_id)
            known = found.get(key)
            found[key] = pattern if known is None else merge_counts(known, pattern)
    return LogBlock(
        tuple(pattern for _, pattern in sorted(found.items())),
        sum(block.loud_lines for block in blocks),
        merge_info(block.facts for block in blocks),
        merge_ranges(part for block in blocks for part in block.ranges),
    )


def merge_counts(left: PatternCount, right: PatternCount) -> PatternCount:
    """Two counts of one pattern."""
    assert left.pattern_id == right.pattern_id, f"{left.pattern_id} and {right.pattern_id} are two patterns"
    texts = merge_texts(left.texts, right.texts) if left.texts and right.texts else left.texts or right.texts
    return PatternCount(
        left.loud,
        left.pattern_id,
        left.count + right.count,
        max(left.severity, right.severity),
        texts,
        _merge_hosts(left.hosts, right.hosts),
        tuple(sorted({*left.samples, *right.samples})[:SAMPLES_MAX]),
    )


def merge_log_partials(partials: Iterable[LinePartial]) -> list[LogPartial]:
    """One for each service, in key order."""
    found: dict[tuple[str, str], dict[tuple[int, bool], list[LogBlock]]] = {}
    for partial in partials:
        panes = found.setdefault((partial.env, partial.service), {})
        for start_ms, late, block in partial.panes:
            panes.setdefault((start_ms, late), []).append(block)
    return [
        LogPartial(env, service, tuple((*key, merge_log_blocks(blocks)) for key, blocks in sorted(panes.items())))
        for (env, service), panes in sorted(found.items())
    ]


def without_quiet(partials: Iterable[LogPartial]) -> Iterator[LogPartial]:
    """The same with all quiet lines of a block as one number."""
    for partial in partials:
        panes = tuple((start_ms, late, _without_quiet(block)) for start_ms, late, block in partial.panes)
        yield LogPartial(partial.env, partial.service, panes)


def _without_quiet(block: LogBlock) -> LogBlock:
    quiet = sum(counted.count for counted in block.patterns if not counted.loud)
    loud = tuple(counted for counted in block.patterns if counted.loud)
    rest = (PatternCount(False, OTHER_PATTERNS, quiet, 0, ()),) if quiet else ()
    return LogBlock((*rest, *loud), block.loud_lines, block.facts, block.ranges)


def line_count(block: LogBlock) -> int:
    return sum(pattern.count for pattern in block.patterns)


def _merge_hosts(left: tuple[tuple[str, int], ...], right: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """Of more than HOSTS_MAX names those with the least hash are kept apart, so that order does not matter."""
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
