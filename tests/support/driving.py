"""Runs machines in tests as an engine does, and checks at each call the rules that every machine must keep."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import numpy as np

from jobs.graph import GraphConfig
from operators.correlate.sequences import SequenceConfig
from operators.emission import EmissionConfig, EmitWhen
from operators.gates.novelty import NoveltyConfig
from operators.ingest.fold import FoldConfig
from operators.ingest.name_admission import PreAggregateConfig
from operators.machine import BEGIN_OF_TIME, END_OF_INPUT, Machine, Stage, Step
from operators.runtime.local import LocalGraph, Through, unchanged
from operators.runtime.routing import Sink, open_ends
from state_schemas.aggregates.activity import ActivityWindow, EnvActivity
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.logs import LineAggregate, LogAggregate
from state_schemas.aggregates.novelty import PatternSighting
from state_schemas.aggregates.releases import ServiceReleases
from state_schemas.aggregates.requests import EffectAggregate, EffectWindow
from state_schemas.aggregates.rule_signals import RuleEdge
from state_schemas.aggregates.spans import SpanAggregate, SpanTable
from state_schemas.codec import Box, Codec
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import EdgeRow, PatternName, PatternRow, RollupRow
from tests.support.rules import INDEX
from tests.support.traffic import LATENESS_MS, OUT_OF_ORDER_MS, START_MS, TIMES
from udfs.activity import merge_activity
from udfs.detect.deploys.rule import DeployConfig
from udfs.detect.log_patterns.rule import LIFE, PatternConfig
from udfs.detect.requests.counts import merge_effect_windows
from udfs.detect.requests.rule import LIFE as EFFECT_LIFE
from udfs.detect.requests.rule import EffectConfig
from udfs.detect.telemetry_gap.rule import GapConfig
from udfs.logs.window import merge_log_aggregates
from udfs.rules.service_graph import INTERVAL_MS
from udfs.spans.calls import PairLimits
from udfs.spans.window import NameLimits, merge_span_tables
from udfs.stats.duration_histogram import unpack
from udfs.stats.poisson_change import ChangeConfig

Timed = tuple[int, Any]  # (Kafka timestamp of the message of the event, event)
HOUR_MS: Final = 3_600_000
BEHIND_MS: Final = 60_000  # of the watermark after a restore
CAUGHT_UP_MS: Final = 3_000  # by each event after it
TIMERS_MAX: Final = 30_000  # far more than the longest story needs, with 64 buckets of sequences


def graph_config(emit_when: EmitWhen = "early", services_max: int = 5_000, envs_max: int = 50) -> GraphConfig:
    """Return the shipped settings with the lateness of the stories."""
    return GraphConfig(
        fold=FoldConfig(TIMES, rules=INDEX),
        pre_aggregate=PreAggregateConfig(services_max, envs_max, activity_report_ms=60_000),
        calls=PairLimits(lateness_ms=LATENESS_MS),
        emission=EmissionConfig(lateness_ms=LATENESS_MS, emit_when=emit_when),
        patterns=PatternConfig(warm_minutes=1, away_minutes=1, life=replace(LIFE, close_after_ms=40_000), top=3),
        novelty=NoveltyConfig(known_ms=60_000),
        effects=EffectConfig(
            ChangeConfig(windows_min=3, nats_open=3.0),
            life=replace(EFFECT_LIFE, close_after_ms=60_000),
            past_windows_min=1,
            seen_windows_min=3,
        ),
        gap=GapConfig(
            silence_ms=40_000, signal_warm_windows=6, service_warm_windows=10, silent_ticks_min=4, silent_nats=3.0
        ),
        deploys=DeployConfig(warm_ms=60_000, gone_nats=0.5, roll_out_ms=120_000, an_hour_max=3),
        rules=SequenceConfig(INDEX, delay_ms=0),
    )


class Checked(Machine[Any, Any, Any]):
    """A machine with checks: no timer in the past, and no event or output that changes after it was handed on."""

    def __init__(self, machine: Machine[Any, Any, Any]) -> None:
        self._machine = machine
        self._given: list[tuple[Any, bytes]] = []
        self.timers = 0

    @property
    def takes(self) -> tuple[type, ...]:
        return self._machine.takes

    @property
    def gives(self) -> tuple[type, ...]:
        return self._machine.gives

    @property
    def codec(self) -> Codec[Any]:
        return self._machine.codec

    def initial(self, key: str) -> Any:
        return self._machine.initial(key)

    def on_event(self, state: Any, event: Any, watermark_ms: int) -> Step[Any, Any]:
        self._given.append((event, msgspec.msgpack.encode(event)))
        return self._checked(self._machine.on_event(state, event, watermark_ms), watermark_ms)

    def on_timer(self, state: Any, now_ms: int) -> Step[Any, Any]:
        self.timers += 1
        assert self.timers <= TIMERS_MAX, f"{self.timers} timers were fired: a loop of timers"
        step = self._checked(self._machine.on_timer(state, now_ms), now_ms)
        if now_ms == END_OF_INPUT:
            assert step.state is None, "at the end of the input every state is forgotten"
        return step

    def _checked(self, step: Step[Any, Any], now_ms: int) -> Step[Any, Any]:
        if step.state is None:
            assert step.timer_at_ms is None, "a forgotten key asks for a timer"
        else:
            assert step.timer_at_ms is not None, "a state without a timer is never forgotten"
            assert now_ms < step.timer_at_ms < END_OF_INPUT, f"timer at {step.timer_at_ms}, now is {now_ms}"
        assert all(number >= 0 for _, number in step.counts), step.counts
        self._given += ((output, msgspec.msgpack.encode(output)) for output in step.outputs)
        return step

    def assert_nothing_changed(self) -> None:
        for thing, as_given in self._given:
            assert msgspec.msgpack.encode(thing) == as_given, "an event or an output was changed after it was handed on"


def checked(stage: Stage) -> Stage:
    return replace(stage, machine=Checked(stage.machine))


def run(
    stages: Sequence[Stage], events: Iterable[Timed], between: Through = unchanged, advance_every: int = 1
) -> list[Any]:
    """Return all outputs of the input. advance_every: events between two watermarks; 0: one watermark at the end."""
    stages = [checked(stage) for stage in stages]
    # Rows of calls leave the graph, although rules take them too.
    graph = LocalGraph(stages, between, (*open_ends(stages), Sink("EdgeRow", EdgeRow)))
    out: list[Any] = []
    newest_ms = START_MS
    for count, (timestamp_ms, event) in enumerate(events, 1):
        out += graph.feed((event,))
        newest_ms = max(newest_ms, timestamp_ms)
        if advance_every and count % advance_every == 0:
            out += graph.advance(newest_ms - OUT_OF_ORDER_MS)
    out += graph.finish()
    assert not graph.state_bytes(), "a key still has a state after the end of the input"
    for stage in stages:
        assert isinstance(stage.machine, Checked)
        stage.machine.assert_nothing_changed()
    return out


def restored(stage: Stage, events: Sequence[Timed], cuts: set[int], *, restart: bool = True) -> list[Any]:
    """Return all outputs of an input that is restored from a checkpoint before each event with such a number.

    The watermark begins anew with the events after it, and reaches that of an undisturbed run only after some of them:
    it is the lowest of the partitions, and one of them may be slow to come back.
    restart: False for the job that goes on: its event time stands still until the one described is beyond it.
    """
    graph = LocalGraph([checked(stage)])
    out: list[Any] = []
    newest_ms, behind_ms, watermark_ms = START_MS, 0, BEGIN_OF_TIME
    for number, (timestamp_ms, event) in enumerate(events):
        if number in cuts:
            newest_ms, behind_ms = START_MS, BEHIND_MS
            if restart:
                graph.restart()
                watermark_ms = BEGIN_OF_TIME
        out += graph.feed((event,))
        newest_ms = max(newest_ms, timestamp_ms)
        watermark_ms = max(watermark_ms, newest_ms - OUT_OF_ORDER_MS - behind_ms)
        out += graph.advance(watermark_ms)
        behind_ms = max(0, behind_ms - CAUGHT_UP_MS)
    return out + graph.finish()


def courses(outputs: Iterable[Any]) -> dict[str, list[str]]:
    """Return the statuses of each insight, by id, without `updated`: a slower watermark makes one of several."""
    found: dict[str, list[str]] = {}
    for insight in insights(outputs):
        statuses = found.setdefault(insight.insight_id, [])
        if insight.status != "updated":
            statuses.append(insight.status)
    return found


def restarts(is_cut: Callable[[int], bool]) -> Through:
    """Pickle a state in its Box as Flink does, and read it back, after each step whose number `is_cut` accepts."""
    steps = iter(range(1 << 60))

    def through(stage: Stage, state: Any) -> Any:
        if not is_cut(next(steps)):
            return state
        box = pickle.loads(pickle.dumps(Box(stage.machine.codec, state, 7)))
        assert box.timer_at_ms == 7
        return box.state

    return through


def insights(outputs: Iterable[Any]) -> list[Insight]:
    """Return all revisions, in the order in which they came."""
    revisions = (
        output.revision if isinstance(output, PatternSighting | LoggingWindows) else output for output in outputs
    )
    return [output for output in revisions if isinstance(output, Insight)]


def last_revisions(outputs: Iterable[Any], *, kafka: bool = True) -> dict[str, dict[str, Any]]:
    """Return the last revision of each insight by id, without its number; retracted insights are left out.

    `open` is returned as `updated`: how many revisions there are depends on the order of events.
    """
    last = {insight.insight_id: insight for insight in insights(outputs)}
    plain: dict[str, dict[str, Any]] = {}
    for insight_id, insight in sorted(last.items()):
        if insight.status != "retracted":
            plain[insight_id] = msgspec.to_builtins(insight)
            del plain[insight_id]["revision"]
            if insight.status == "open":
                plain[insight_id]["status"] = "updated"
            if not kafka:
                del plain[insight_id]["evidence"]["kafka"]
    return plain


def rollup_sums(outputs: Iterable[Any]) -> dict[tuple[Any, ...], tuple[int, int, dict[int, int]]]:
    """Return (count, errors, merged sketch) of each window and name, late ones separately."""
    counts: Counter[tuple[Any, ...]] = Counter()
    errors: Counter[tuple[Any, ...]] = Counter()
    sketches: dict[tuple[Any, ...], Counter[int]] = {}
    for row in outputs:
        if isinstance(row, RollupRow):
            place = (row.resolution_s, row.window_start_ms, row.late, row.env, row.service)
            key = (*place, row.dimension, row.name, row.span_kind)
            counts[key] += row.count
            errors[key] += row.error_count
            bins, numbers = unpack(row.sketch)
            assert (np.diff(bins) > 0).all(), "bins of a row are distinct and ascending"
            assert int(numbers.sum()) == row.count, "a row's sketch holds exactly its spans"
            sketches.setdefault(key, Counter()).update(dict(zip(bins.tolist(), numbers.tolist(), strict=True)))
    return {key: (counts[key], errors[key], dict(sorted(sketches[key].items()))) for key in sorted(counts)}


def edge_sums(outputs: Iterable[Any]) -> dict[tuple[Any, ...], tuple[int, int, dict[int, int]]]:
    """Return (count, errors, merged sketch) of each window, caller and callee, late ones separately."""
    sums: dict[tuple[Any, ...], tuple[int, int, dict[int, int]]] = {}
    for row in outputs:
        if isinstance(row, EdgeRow):
            key = (row.resolution_s, row.window_start_ms, row.late, row.env, row.service, row.callee)
            count, errors, sketch = sums.get(key, (0, 0, {}))
            bins, numbers = unpack(row.sketch)
            merged = Counter(sketch) + Counter(dict(zip(bins.tolist(), numbers.tolist(), strict=True)))
            sums[key] = (count + row.count, errors + row.error_count, dict(sorted(merged.items())))
    return dict(sorted(sums.items()))


def pattern_sums(outputs: Iterable[Any]) -> dict[tuple[Any, ...], int]:
    """Count the lines of each window, late ones separately; the patterns with a row depend on the order of lines."""
    sums: Counter[tuple[Any, ...]] = Counter()
    for row in outputs:
        if isinstance(row, PatternRow):
            sums[row.resolution_s, row.window_start_ms, row.late, row.env, row.service, row.source] += row.count
    return dict(sorted(sums.items()))


def names_of(outputs: Iterable[Any]) -> dict[str, tuple[str, int, str]]:
    """Return the last template, first time and alias of each pattern."""
    newest = {
        (row.env, row.service, row.source, row.pattern_id): (row.template, row.first_seen_ms, row.alias_of)
        for row in outputs
        if isinstance(row, PatternName)
    }
    return {"|".join(key): named for key, named in sorted(newest.items())}


def sightings_of(outputs: Iterable[Any]) -> dict[str, int]:
    """Return the earliest sighting of each pattern, service and source."""
    found: dict[str, int] = {}
    for output in outputs:
        if isinstance(output, PatternSighting) and output.revision is None:
            key = f"{output.env}|{output.pattern_id}|{output.service}|{output.source}"
            found[key] = min(output.seen_ms, found.get(key, output.seen_ms))
    return dict(sorted(found.items()))


def releases_of(outputs: Iterable[Any]) -> dict[tuple[Any, ...], int]:
    """Return the earliest report of each release in each minute, the interval of the stories."""
    found: dict[tuple[Any, ...], int] = {}
    for output in outputs:
        if isinstance(output, ServiceReleases):
            for window in output.windows:
                for seen in window.seen:
                    key = (output.env, output.service, seen, window.start_ms // 60_000)
                    found[key] = min(window.start_ms, found.get(key, window.start_ms))
    return found


def effects_of(outputs: Iterable[Any]) -> dict[tuple[Any, ...], EffectWindow]:
    """Merge the requests and effects of each service and window."""
    found: dict[tuple[Any, ...], EffectWindow] = {}
    for output in outputs:
        if isinstance(output, EffectAggregate):
            for start_ms, window in output.windows:
                place = (output.env, output.service, start_ms)
                found[place] = merge_effect_windows(found.get(place, EffectWindow()), window, (), start_ms)
    return dict(sorted(found.items()))


def rule_edges_of(outputs: Iterable[Any]) -> dict[tuple[Any, ...], int]:
    """Return the first window of each edge in each interval: it alone decides what rules know."""
    found: dict[tuple[Any, ...], int] = {}
    for output in outputs:
        if isinstance(output, RuleEdge):
            key = (output.env, output.bucket, output.edge, output.start_ms // INTERVAL_MS)
            found[key] = min(output.start_ms, found.get(key, output.start_ms))
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Summary:
    """Everything in outputs that must not depend on order, chunks or watermarks; parts are added up."""

    rollups: dict[tuple[Any, ...], tuple[int, int, dict[int, int]]]
    edges: dict[tuple[Any, ...], tuple[int, int, dict[int, int]]]
    spans: dict[tuple[str, str, int, bool], SpanTable]
    activity: dict[str, tuple[ActivityWindow, ...]]
    pattern_lines: dict[tuple[Any, ...], int]
    pattern_names: dict[str, tuple[str, int, str]]
    sightings: dict[str, int]
    logging_windows: set[tuple[str, int]]
    effects: dict[tuple[Any, ...], EffectWindow]
    lines: list[LogAggregate]
    rule_edges: dict[tuple[Any, ...], int]
    releases: dict[tuple[Any, ...], int]


def summary(outputs: Sequence[Any]) -> Summary:
    """Return the sums of everything but insights, see `last_revisions`."""
    tables: dict[tuple[str, str, int, bool], list[SpanTable]] = {}
    activity: dict[str, list[ActivityWindow]] = {}
    for output in outputs:
        if isinstance(output, SpanAggregate):
            for start_ms, late, table in output.windows:
                tables.setdefault((output.env, output.service, start_ms, late), []).append(table)
        elif isinstance(output, EnvActivity):
            activity.setdefault(output.env, []).extend(output.windows)
    return Summary(
        rollups=rollup_sums(outputs),
        edges=edge_sums(outputs),
        spans={place: merge_span_tables(found, NameLimits()) for place, found in tables.items()},
        activity={env: merge_activity(windows) for env, windows in activity.items()},
        pattern_lines=pattern_sums(outputs),
        pattern_names=names_of(outputs),
        sightings=sightings_of(outputs),
        logging_windows={
            (output.env, start_ms)
            for output in outputs
            if isinstance(output, LoggingWindows)
            for start_ms in output.windows
        },
        effects=effects_of(outputs),
        rule_edges=rule_edges_of(outputs),
        lines=list(merge_log_aggregates(output for output in outputs if isinstance(output, LineAggregate))),
        releases=releases_of(outputs),
    )


def assert_same(found: Sequence[Any], expected: Sequence[Any], *, kafka: bool = True) -> None:
    """Assert that two runs end with the same insights and the same sums. kafka: whether offsets must be the same."""
    assert last_revisions(found, kafka=kafka) == last_revisions(expected, kafka=kafka)
    assert summary(found) == summary(expected)
