"""Rows of patterns: the most frequent ones of each window with the rest as one row, and names of new patterns."""

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
    """Lines of a service in a roll-up window."""

    key: ServiceKey
    source: LineSource
    window: RollupWindow
    table: LogTable


def top_rows(lines: PatternWindow, top: int, registry: Mapping[str, Registered]) -> Iterator[PatternRow]:
    """Yield rows of the patterns with most lines, ties by id, then one row of all others.

    Their counts add up to `table.severe_lines`.
    """
    counted_by: dict[str, list[PatternCount]] = {}
    for counted in lines.table.patterns:
        if counted.severe:
            counted_by.setdefault(canonical(registry, counted.pattern_id, counted.texts), []).append(counted)
    beyond = counted_by.pop(OTHER_PATTERNS, [])
    ranked = sorted(counted_by.items(), key=lambda item: (-_lines(item[1]), item[0]))
    for rank, (name, counts) in enumerate(ranked[:top], 1):
        texts = registry[name].texts if name in registry else counts[0].texts
        yield _row(lines, rank, name, template_of(texts), counts)
    if rest := [counted for _, counts in ranked[top:] for counted in counts] + beyond:
        yield _row(lines, 0, OTHER_PATTERNS, "", rest)


def pattern_names(
    key: ServiceKey, before: LogPatternModel, after: LogPatternModel, source: LineSource
) -> Iterator[PatternName]:
    """Yield a name of each pattern that is new or changed since `before`, in id order."""
    namespace, service = key.name
    for pattern_id, entry in sorted(after.registry.items()):
        known = before.registry.get(pattern_id)
        if known is None or (known.texts, known.alias_of) != (entry.texts, entry.alias_of):
            yield PatternName(
                env=key.env,
                service=service,
                source=source,
                pattern_id=pattern_id,
                template=template_of(entry.texts),
                first_seen_ms=entry.first_seen_ms,
                alias_of=entry.alias_of,
                at_ms=after.last_end_ms,
                namespace=namespace,
            )


def _lines(counts: list[PatternCount]) -> int:
    return sum(counted.count for counted in counts)


def _row(lines: PatternWindow, rank: int, pattern_id: str, template: str, counts: list[PatternCount]) -> PatternRow:
    namespace, service = lines.key.name
    return PatternRow(
        env=lines.key.env,
        site_id=lines.table.info.site_id,
        service=service,
        source=lines.source,
        resolution_s=lines.window.resolution_s,
        window_start_ms=lines.window.start_ms,
        late=lines.window.late,
        rank=rank,
        pattern_id=pattern_id,
        template=template,
        severity_number=max(counted.severity for counted in counts),
        count=_lines(counts),
        total=lines.table.severe_lines,
        namespace=namespace,
    )
