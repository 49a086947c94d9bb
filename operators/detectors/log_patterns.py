"""LogPatterns: what a service logs most at WARN and up, and insights when that is new, back, or far more than usual.

Driven by `LogAggregate`, its quiet lines one number, or by `ExceptionAggregate` of what spans recorded, never by both;
puts out `PatternRow`, `PatternName`, `LogPatternSighting` (or `SpanPatternSighting`) and `InsightRevision`. State:
blocks of windows not yet written, reported windows that are not final, the registry of patterns, the running episodes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from operators.detectors.pattern_rows import PATTERN_RESOLUTIONS_S, pattern_names, top_rows
from operators.emission import EmissionConfig, Emitter, next_firing_ms
from operators.machine import BEGIN_OF_TIME, END_OF_INPUT, Step
from operators.rollup_windows import next_due_ms, take_ended, wait
from state_schemas.aggregates.logs import OTHER_PATTERNS, LineAggregate, LineSource, LogTable, PatternCount
from state_schemas.aggregates.names import NameOverflow
from state_schemas.aggregates.novelty import LogPatternSighting, PatternSighting, SpanPatternSighting
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight, InsightRevision, from_json
from state_schemas.contracts.rows import PatternName, PatternRow
from state_schemas.state.log_patterns import PATTERNS_CODEC, LogPatternModel, PatternOverflow, PatternsState, Registered
from udfs.detect.log_patterns.report import for_source
from udfs.detect.log_patterns.rule import PatternConfig, evaluate_lines, expire_patterns
from udfs.detect.service_window import ServiceWindow
from udfs.insights.ids import service_key, split_service_key
from udfs.logs.template import merge_texts
from udfs.logs.window import line_count, merge_log_tables

Output = PatternRow | PatternName | PatternSighting | NameOverflow | InsightRevision
_Counts = tuple[tuple[MetricName, int], ...]

UNKNOWN_MAX: Final = 500  # patterns of a window that are not registered yet; the rest is counted under `other`
# A pattern seen so lately is not dropped from the registry while its lines wait: they need no texts of their own.
KNOWN_MS: Final = 1_800_000
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class LogPatternsConfig:
    """top: patterns of a window that get a row of their own. insights: whether anything is said beside the rows.

    idle_ms: a key without lines or spans for so long is forgotten. source: of the lines, said in each row and insight.
    """

    rule: PatternConfig = field(default_factory=PatternConfig)
    emission: EmissionConfig = field(default_factory=EmissionConfig)
    top: int = 20
    insights: bool = True
    idle_ms: int = 7 * 24 * 3_600_000
    source: LineSource = "logs"

    @property
    def fingerprint(self) -> str:
        """The parameters that state depends on: under others it cannot be continued."""
        return f"pane_ms={self.emission.window_ms} patterns=1"


class LogPatterns:
    """See the module. One state for each (env, service): patterns_max registered, UNKNOWN_MAX more a waiting window."""

    def __init__(self, config: LogPatternsConfig) -> None:
        self.config = config
        self._window_ms = config.emission.window_ms
        self._emitter: Emitter[LogPatternModel, LogTable] = Emitter(
            config.emission, lambda window: len(window.patterns)
        )

    @property
    def codec(self) -> Codec[PatternsState]:
        return PATTERNS_CODEC

    def initial(self, key: str) -> PatternsState:
        env, service = split_service_key(key)
        return PatternsState(self.config.fingerprint, env, service)

    def on_event(self, state: PatternsState, event: LineAggregate, watermark_ms: int) -> Step[PatternsState, Output]:
        counts: list[tuple[MetricName, int]] = []
        if state.fingerprint != self.config.fingerprint:
            state = self.initial(service_key(event.env, event.service))
            counts.append(("states_reset_total", 1))
        emission, behind = self.config.emission, 0
        for start_ms, late, table in event.windows:
            is_behind = not late and emission.is_final(start_ms, watermark_ms, state.model.last_end_ms)
            behind += line_count(table) if is_behind else 0
            window = (self._window_ms // 1000, start_ms, late or is_behind)
            known = self._known(state.model.registry, table, start_ms)
            wait(state.pending, window, known, partial(_merged, registry=state.model.registry))
            if not late:
                state.last_seen_ms = max(state.last_seen_ms, start_ms + self._window_ms)
        if behind:
            counts.append(("records_behind_total", behind))
        return Step(state, timer_at_ms=self._next_timer_ms(state, watermark_ms), counts=tuple(counts))

    def on_timer(self, state: PatternsState, now_ms: int) -> Step[PatternsState, Output]:
        if now_ms != END_OF_INPUT:
            out, counts = self._advance(state, now_ms)
            if not self._is_over(state, now_ms):
                return Step(state, out, self._next_timer_ms(state, now_ms), counts)
            if self.config.insights:
                registry = state.model.registry
                expired = expire_patterns(state.model, state.env, state.service)
                concluded = [for_source(one, self.config.source) for one in expired]
                out += tuple(
                    _sightings(state, registry, self._emitter.conclude(state.emitted, concluded), self.config.source)
                )
            return Step(None, out, None, (*counts, ("states_forgotten_total", 1)))
        # As if event time went on: what a pattern is called in a window is what was known when it ended.
        rest: list[Output] = []
        all_counts: list[tuple[MetricName, int]] = [("states_forgotten_total", 1)]
        # What has been reported stays so.
        due_ms = self._due_ms(state, max(state.windows, default=BEGIN_OF_TIME) + self._window_ms)
        while due_ms is not None:
            out, counts = self._advance(state, due_ms)
            rest += out
            all_counts += counts
            due_ms = self._due_ms(state, due_ms)
        return Step(None, tuple(rest), None, tuple(all_counts))

    def _advance(self, state: PatternsState, now_ms: int) -> tuple[tuple[Output, ...], _Counts]:
        """Windows that have ended by now_ms are written, windows are reported and become final."""
        rows: list[PatternRow] = []
        overflowed = 0
        registry, overflows = state.model.registry, state.model.overflows
        merge = partial(_merged, registry=registry)
        for window, table in take_ended(state.pending, now_ms, PATTERN_RESOLUTIONS_S, merge):
            resolution_s, start_ms, late = window
            rows += top_rows(state, window, table, self.config.top, self.config.source)
            if resolution_s > PATTERN_RESOLUTIONS_S[0]:
                continue
            overflowed += sum(
                part.count for part in table.patterns if part.severe and part.pattern_id == OTHER_PATTERNS
            )
            if not late:
                before = state.windows.get(start_ms)
                state.windows[start_ms] = _merged([before, table], registry) if before else table
        state.model, insights = self._emitter.advance(
            service_key(state.env, state.service),
            _Evaluator(state.env, state.service, self.config),
            state.model,
            state.windows,
            state.emitted,
            now_ms,
        )
        counts: _Counts = (
            ("insights_emitted_total", len(insights)),
            ("lines_overflowed_total", overflowed),
            ("patterns_evicted_total", len(registry.keys() - state.model.registry.keys())),
        )
        named = pattern_names(state, registry, self.config.source)
        sighting = _sightings(state, registry, insights, self.config.source)
        return (*rows, *named, *self._overflows(state, overflows), *sighting), counts

    def _known(self, registry: dict[str, Registered], table: LogTable, start_ms: int) -> LogTable:
        """The block as it waits: without the texts that the registry knows."""
        kept: list[PatternCount] = []
        for counted in table.patterns:
            if not counted.severe:
                kept.append(counted)
            else:
                entry = registry.get(counted.pattern_id)
                is_known = (
                    entry is not None
                    and entry.last_seen_ms >= start_ms - KNOWN_MS
                    and (not counted.texts or merge_texts(entry.texts, counted.texts) == entry.texts)
                )
                kept.append(msgspec.structs.replace(counted, texts=()) if is_known else counted)
        return msgspec.structs.replace(table, patterns=tuple(kept))

    def _overflows(self, state: PatternsState, before: tuple[PatternOverflow, ...]) -> Iterator[NameOverflow]:
        """Where there was no room for a pattern: for `Capacity`, which says so once."""
        for one in state.model.overflows:
            if one not in before:
                patterns_max = self.config.rule.patterns_max
                yield NameOverflow(
                    state.env, one.start_ms, patterns_max, state.service, one.ranges, "log.pattern", state.service
                )

    def _is_over(self, state: PatternsState, now_ms: int) -> bool:
        return now_ms >= self._forget_ms(state) and not state.pending and not state.windows

    def _due_ms(self, state: PatternsState, now_ms: int) -> int | None:
        """When the next window ends, or the next window is reported or final; None where nothing waits."""
        due = (next_due_ms(state.pending), next_firing_ms(self.config.emission, state.windows, now_ms))
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    def _next_timer_ms(self, state: PatternsState, now_ms: int) -> int:
        due_ms = self._due_ms(state, now_ms)
        return max(now_ms + 1, self._forget_ms(state) if due_ms is None else due_ms)

    def _forget_ms(self, state: PatternsState) -> int:
        return self.config.emission.forget_ms(state.last_seen_ms, self.config.idle_ms)


def _sightings(
    state: PatternsState, before: dict[str, Registered], insights: Sequence[InsightRevision], source: LineSource
) -> Iterator[PatternSighting | InsightRevision]:
    """The insights, by way of `NoveltyGate` if it may know better; and which patterns are logged, each once a day."""
    sighting = LogPatternSighting if source == "logs" else SpanPatternSighting
    for name, entry in sorted(state.model.registry.items()):
        known = before.get(name)
        if not entry.alias_of and (known is None or known.last_seen_ms // DAY_MS < entry.last_seen_ms // DAY_MS):
            seen_ms = entry.first_seen_ms if known is None else entry.last_seen_ms
            yield sighting(state.env, name, state.service, seen_ms, source)
    for revision in insights:
        insight = from_json(revision.body)
        if insight.kind == "error_pattern_new" or source == "spans":
            pattern_id = insight.subject.partition("@")[0]
            lines = int(insight.measures["lines"])
            yield sighting(state.env, pattern_id, state.service, insight.window.start_ms, source, lines, revision)
        else:
            yield revision


def _merged(tables: Sequence[LogTable], registry: dict[str, Registered]) -> LogTable:
    """All lines of the blocks; of patterns that are not registered those with the least ids keep their names."""
    table = merge_log_tables(tables)
    unknown = [
        counted
        for counted in table.patterns
        if counted.severe and counted.pattern_id not in registry and counted.pattern_id != OTHER_PATTERNS
    ]
    if len(unknown) <= UNKNOWN_MAX:
        return table
    beyond = {counted.pattern_id for counted in unknown[UNKNOWN_MAX:]}
    rest = [
        PatternCount(True, OTHER_PATTERNS, counted.count, counted.severity, (), counted.hosts, counted.samples)
        for counted in unknown[UNKNOWN_MAX:]
    ]
    kept = tuple(counted for counted in table.patterns if not (counted.severe and counted.pattern_id in beyond))
    left = msgspec.structs.replace(table, patterns=kept)
    return merge_log_tables([left, *(LogTable((counted,)) for counted in rest)])


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """One window of lines against what was learned."""

    env: str
    service: str
    config: LogPatternsConfig

    def __call__(
        self, model: LogPatternModel, start_ms: int, window: LogTable
    ) -> tuple[LogPatternModel, list[Insight]]:
        end_ms = start_ms + self.config.emission.window_ms
        candidates: list[Insight] = []
        if self.config.emission.is_forgotten(model.last_end_ms, start_ms, self.config.idle_ms):
            candidates += expire_patterns(model, self.env, self.service)
            model = LogPatternModel()
        model, more = evaluate_lines(
            model, ServiceWindow(self.env, self.service, start_ms, end_ms, window), self.config.rule
        )
        emitted = candidates + more if self.config.insights else []
        return model, [for_source(candidate, self.config.source) for candidate in emitted]
