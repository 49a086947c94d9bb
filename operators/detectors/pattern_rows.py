"""Rows about patterns: the most frequent of each window with the rest as one number, and the names of new ones."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from state_schemas.aggregates.logs import OTHER_PATTERNS, LineSource, LogTable, PatternCount
from state_schemas.contracts.tables import PatternName, PatternRow
from state_schemas.state.detector import RollupWindow
from state_schemas.state.log_patterns import LogPatternModel, Registered
from udfs.detect.log_patterns.registry import canonical
from udfs.detect.service_window import ServiceKey
from udfs.logs.template import template_of

PATTERN_RESOLUTIONS_S: Final = (10, 60)


class PatternWindow(NamedTuple):
    """Lines of a service in a roll-up window. source: of the lines."""

    key: ServiceKey
    source: LineSource
    window: RollupWindow
    table: LogTable


def top_rows(found: PatternWindow, top: int, registry: Mapping[str, Registered]) -> Iterator[PatternRow]:
    """Yield the patterns with most lines, ties by id, then all others as one row.

    Together they are `table.severe_lines`.
    """
    counted_by: dict[str, list[PatternCount]] = {}
    for counted in found.table.patterns:
        if counted.severe:
            counted_by.setdefault(canonical(registry, counted.pattern_id, counted.texts), []).append(counted)
    beyond = counted_by.pop(OTHER_PATTERNS, [])
    ranked = sorted(counted_by.items(), key=lambda item: (-_lines(item[1]), item[0]))
    for rank, (name, counts) in enumerate(ranked[:top], 1):
        texts = registry[name].texts if name in registry else counts[0].texts
        yield _row(found, rank, name, template_of(texts), counts)
    if rest := [counted for _, counts in ranked[top:] for counted in counts] + beyond:
        yield _row(found, 0, OTHER_PATTERNS, "", rest)


def pattern_names(
    key: ServiceKey, before: LogPatternModel, after: LogPatternModel, source: LineSource
) -> Iterator[PatternName]:
    """Yield the patterns that are named, or named otherwise, since `before`, in id order."""
    for pattern_id, entry in sorted(after.registry.items()):
        known = before.registry.get(pattern_id)
        if known is None or (known.texts, known.alias_of) != (entry.texts, entry.alias_of):
            yield PatternName(
                env=key.env,
                service=key.service,
                source=source,
                pattern_id=pattern_id,
                template=template_of(entry.texts),
                first_seen_ms=entry.first_seen_ms,
                alias_of=entry.alias_of,
                at_ms=after.last_end_ms,
            )


def _lines(counts: list[PatternCount]) -> int:
    return sum(counted.count for counted in counts)


def _row(found: PatternWindow, rank: int, pattern_id: str, template: str, counts: list[PatternCount]) -> PatternRow:
    return PatternRow(
        env=found.key.env,
        site_id=found.table.info.site_id,
        service=found.key.service,
        source=found.source,
        resolution_s=found.window.resolution_s,
        window_start_ms=found.window.start_ms,
        late=found.window.late,
        rank=rank,
        pattern_id=pattern_id,
        template=template,
        severity_number=max(counted.severity for counted in counts),
        count=_lines(counts),
        total=found.table.severe_lines,
    )
