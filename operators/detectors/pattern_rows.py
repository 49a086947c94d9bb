"""Rows about patterns: the most frequent of each window with the rest as one number, and the names of new ones."""

from collections.abc import Iterator, Mapping
from typing import Final

from operators.rollup_windows import RollupWindow
from state_schemas.aggregates.logs import OTHER_PATTERNS, LineSource, LogTable, PatternCount
from state_schemas.contracts.rows import PatternName, PatternRow
from state_schemas.state.log_patterns import PatternsState, Registered
from udfs.detect.log_patterns.registry import canonical
from udfs.logs.template import template_of

PATTERN_RESOLUTIONS_S: Final = (10, 60)


def top_rows(
    state: PatternsState, window: RollupWindow, table: LogTable, top: int, source: LineSource
) -> Iterator[PatternRow]:
    """The patterns with most lines, ties by id, then all others as one row; together they are `table.severe_lines`."""
    registry = state.model.registry
    found: dict[str, list[PatternCount]] = {}
    for counted in table.patterns:
        if counted.severe:
            found.setdefault(canonical(registry, counted.pattern_id, counted.texts), []).append(counted)
    beyond = found.pop(OTHER_PATTERNS, [])
    ranked = sorted(found.items(), key=lambda item: (-_lines(item[1]), item[0]))
    for rank, (name, counts) in enumerate(ranked[:top], 1):
        texts = registry[name].texts if name in registry else counts[0].texts
        yield _row(state, window, table, rank, name, template_of(texts), counts, source)
    if rest := [counted for _, counts in ranked[top:] for counted in counts] + beyond:
        yield _row(state, window, table, 0, OTHER_PATTERNS, "", rest, source)


def pattern_names(state: PatternsState, before: Mapping[str, Registered], source: LineSource) -> Iterator[PatternName]:
    """Patterns that are named, or named otherwise, since the registry was as before; in id order."""
    for pattern_id, entry in sorted(state.model.registry.items()):
        known = before.get(pattern_id)
        if known is None or (known.texts, known.alias_of) != (entry.texts, entry.alias_of):
            yield PatternName(
                env=state.env,
                service=state.service,
                source=source,
                pattern_id=pattern_id,
                template=template_of(entry.texts),
                first_seen_ms=entry.first_seen_ms,
                alias_of=entry.alias_of,
                at_ms=state.model.last_end_ms,
            )


def _lines(counts: list[PatternCount]) -> int:
    return sum(counted.count for counted in counts)


def _row(
    state: PatternsState,
    window: RollupWindow,
    table: LogTable,
    rank: int,
    pattern_id: str,
    template: str,
    counts: list[PatternCount],
    source: LineSource,
) -> PatternRow:
    resolution_s, start_ms, late = window
    return PatternRow(
        env=state.env,
        site_id=table.info.site_id,
        service=state.service,
        source=source,
        resolution_s=resolution_s,
        window_start_ms=start_ms,
        late=late,
        rank=rank,
        pattern_id=pattern_id,
        template=template,
        severity_number=max(counted.severity for counted in counts),
        count=_lines(counts),
        total=table.severe_lines,
    )
