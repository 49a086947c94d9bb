"""Log pattern detector: top patterns of WARN and higher, and insights of new, returned and surging patterns.

One instance reads log records, another one reads exceptions of spans; their lines are never added up.
"""

from collections.abc import Iterator, Sequence
from typing import Final, get_args

import msgspec

from operators.detectors.pattern_rows import PATTERN_RESOLUTIONS_S, PatternWindow, pattern_names, top_rows
from operators.emission import EmissionConfig
from operators.windowed import Counts, Evaluated, WindowedDetector, WindowPart
from state_schemas.aggregates.logs import (
    OTHER_PATTERNS,
    ExceptionAggregate,
    LineAggregate,
    LineSource,
    LogAggregate,
    LogTable,
    PatternCount,
)
from state_schemas.aggregates.novelty import LogPatternSighting, SpanPatternSighting
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import PatternName, PatternRow
from state_schemas.state.detector import RollupWindow
from state_schemas.state.log_patterns import PATTERNS_CODEC, LogPatternModel, Registered
from udfs.detect.log_patterns.rule import PatternConfig, evaluate_lines, expire_patterns
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.logs.template import PATTERN_VERSION, merge_texts
from udfs.logs.window import line_count, merge_log_tables

OfLogs = PatternRow | PatternName | LogPatternSighting | Insight | DeadLetter
OfSpans = PatternRow | PatternName | SpanPatternSighting | DeadLetter
Output = OfLogs | OfSpans

UNKNOWN_MAX: Final = 500  # unregistered patterns of a window; further ones are counted under `other`
# A pattern seen within this time is not evicted while its lines wait, so the lines need no texts of their own.
KNOWN_MS: Final = 1_800_000
DAY_MS: Final = 86_400_000


class LogPatterns(WindowedDetector[LogPatternModel, LogTable, LineAggregate, Output]):
    """Log pattern detector. One state for each (env, service).

    It holds patterns_max registered patterns, and UNKNOWN_MAX more for each waiting window.
    """

    codec = PATTERNS_CODEC
    empty = LogPatternModel
    resolutions_s = PATTERN_RESOLUTIONS_S

    def __init__(self, config: PatternConfig, emission: EmissionConfig) -> None:
        masks = ",".join(sorted(config.masks.masks))
        super().__init__(emission, config.idle_ms, f"patterns={PATTERN_VERSION} masks={masks}")
        self.config = config
        self.takes = (LogAggregate if config.source == "logs" else ExceptionAggregate,)
        self.gives = get_args(OfLogs if config.source == "logs" else OfSpans)

    def parts(self, event: LineAggregate, model: LogPatternModel) -> Iterator[WindowPart[LogTable]]:
        for start_ms, late, table in event.windows:
            yield WindowPart(start_ms, late, _without_known_texts(table, model.registry, start_ms))

    def records(self, aggregate: LogTable) -> int:
        return line_count(aggregate)

    def names(self, aggregate: LogTable) -> int:
        return len(aggregate.patterns)

    def merge(self, start_ms: int, parts: Sequence[LogTable], model: LogPatternModel) -> LogTable:
        return _merged(parts, model.registry)

    def overflow(self, aggregate: LogTable) -> Counts:
        others = (part for part in aggregate.patterns if part.severe and part.pattern_id == OTHER_PATTERNS)
        return (("lines_overflowed_total", sum(part.count for part in others)),)

    def rows(
        self, key: ServiceKey, window: RollupWindow, aggregate: LogTable, model: LogPatternModel
    ) -> Iterator[PatternRow]:
        return top_rows(PatternWindow(key, self.config.source, window, aggregate), self.config.top, model.registry)

    def evaluate(
        self, window: ServiceWindow[LogTable], model: LogPatternModel
    ) -> tuple[LogPatternModel, list[Insight]]:
        model, candidates = evaluate_lines(model, window, self.config)
        return model, candidates if self.config.insights else []

    def expire(self, key: ServiceKey, model: LogPatternModel) -> list[Insight]:
        return expire_patterns(model, key, self.config) if self.config.insights else []

    def outputs(self, evaluated: Evaluated[LogPatternModel]) -> Iterator[Output]:
        yield from pattern_names(evaluated.key, evaluated.before, evaluated.after, self.config.source)
        yield from _sightings(evaluated, self.config.source)

    def counts(self, evaluated: Evaluated[LogPatternModel]) -> Counts:
        before, after = evaluated.before, evaluated.after
        return (
            ("patterns_evicted_total", len(before.registry.keys() - after.registry.keys())),
            # The count of a service that was forgotten starts again at 0.
            ("lines_overflowed_total", max(0, after.refused_lines - before.refused_lines)),
        )


def _without_known_texts(table: LogTable, registry: dict[str, Registered], start_ms: int) -> LogTable:
    """Drop the texts that the registry has: waiting tables are written with the state at the end of each bundle."""
    kept: list[PatternCount] = []
    for counted in table.patterns:
        entry = registry.get(counted.pattern_id) if counted.severe else None
        is_known = (
            entry is not None
            and entry.last_seen_ms >= start_ms - KNOWN_MS
            and (not counted.texts or merge_texts(entry.texts, counted.texts) == entry.texts)
        )
        kept.append(msgspec.structs.replace(counted, texts=()) if is_known else counted)
    return msgspec.structs.replace(table, patterns=tuple(kept))


def _sightings(
    evaluated: Evaluated[LogPatternModel], source: LineSource
) -> Iterator[LogPatternSighting | SpanPatternSighting | Insight]:
    """Yield a sighting of each pattern once a day, then the revisions.

    A revision that the novelty gate decides is sent inside a sighting.
    """
    (env, service), before = evaluated.key, evaluated.before.registry
    sighting = LogPatternSighting if source == "logs" else SpanPatternSighting
    for name, entry in sorted(evaluated.after.registry.items()):
        known = before.get(name)
        if not entry.alias_of and (known is None or known.last_seen_ms // DAY_MS < entry.last_seen_ms // DAY_MS):
            seen_ms = entry.first_seen_ms if known is None else entry.last_seen_ms
            yield sighting(env, name, service, seen_ms, source)
    for insight in evaluated.revisions:
        if insight.kind == "error_pattern_new" or source == "spans":
            pattern_id = insight.subject.partition("@")[0]
            yield sighting(env, pattern_id, service, insight.window.start_ms, source, insight)
        else:
            yield insight


def _merged(tables: Sequence[LogTable], registry: dict[str, Registered]) -> LogTable:
    """Merge the tables; UNKNOWN_MAX unregistered patterns, those with the smallest ids, keep their ids."""
    table = merge_log_tables(tables)
    unknown = [
        counted
        for counted in table.patterns
        if counted.severe and counted.pattern_id not in registry and counted.pattern_id != OTHER_PATTERNS
    ]
    if len(unknown) <= UNKNOWN_MAX:
        return table
    beyond = unknown[UNKNOWN_MAX:]
    ids = {counted.pattern_id for counted in beyond}
    kept = tuple(counted for counted in table.patterns if not (counted.severe and counted.pattern_id in ids))
    others = (msgspec.structs.replace(counted, pattern_id=OTHER_PATTERNS, texts=()) for counted in beyond)
    return merge_log_tables(
        [msgspec.structs.replace(table, patterns=kept), *(LogTable((counted,)) for counted in others)]
    )
