"""The graph of all machines: which stages there are, in the order of the flow. Engines draw it, tests pin its uids."""

from dataclasses import dataclass, field, replace
from typing import Any

from operators.detectors.latency import LatencyConfig, LatencySpike
from operators.detectors.log_patterns import LogPatterns, LogPatternsConfig
from operators.detectors.requests import RequestEffects, RequestEffectsConfig
from operators.detectors.telemetry_gap import GapConfig, TelemetryGap
from operators.gates.log_silence import LogSilence, LogSilenceConfig
from operators.gates.novelty import NoveltyConfig, NoveltyGate
from operators.ingest.call_pairs import CallPairs, CallPairsConfig
from operators.ingest.fold import FoldConfig
from operators.ingest.pre_aggregate import PreAggregate, PreAggregateConfig
from operators.machine import Stage
from state_schemas.aggregates.activity import EnvActivity
from state_schemas.aggregates.calls import CallSides
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.logs import ExceptionAggregate, LogAggregate
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.novelty import LogPatternSighting, PatternSighting, SpanPatternSighting
from state_schemas.aggregates.requests import EffectAggregate
from state_schemas.aggregates.spans import SpanAggregate
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import EdgeRow, PatternName, PatternRow, RollupRow
from state_schemas.telemetry.signals import SignalType
from udfs.insights.ids import service_key


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """Settings of every machine; the defaults are the ones that everything is scored with."""

    fold: FoldConfig = field(default_factory=FoldConfig)
    pre_aggregate: PreAggregateConfig = field(default_factory=PreAggregateConfig)
    calls: CallPairsConfig = field(default_factory=CallPairsConfig)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    patterns: LogPatternsConfig = field(default_factory=LogPatternsConfig)
    effects: RequestEffectsConfig = field(default_factory=RequestEffectsConfig)
    novelty: NoveltyConfig = field(default_factory=NoveltyConfig)
    silence: LogSilenceConfig = field(default_factory=LogSilenceConfig)
    gap: GapConfig = field(default_factory=GapConfig)


def stages(config: GraphConfig) -> tuple[Stage, ...]:
    """Every keyed stage. A uid names state in savepoints: it never changes and is never used again."""
    return (
        _pre_aggregate("pre-merge", "traces", config),
        _pre_aggregate("pre-merge-logs", "logs", config),
        _pre_aggregate("pre-merge-metrics", "metrics", config),
        Stage("call-pairs", CallPairs(config.calls), takes=CallSides, key_of=_by_bucket, gives=(SpanAggregate,)),
        Stage(
            "latency-spike",
            LatencySpike(config.latency),
            takes=SpanAggregate,
            key_of=_by_service,
            gives=(RollupRow, EdgeRow, EffectAggregate, Insight, DeadLetter),
        ),
        Stage(
            "error-patterns",
            LogPatterns(config.patterns),
            takes=LogAggregate,
            key_of=_by_service,
            gives=(PatternRow, PatternName, LogPatternSighting, Insight, DeadLetter),
        ),
        # A stage of its own: event time of two inputs is the lesser of theirs, and logs wait for no spans.
        Stage(
            "error-patterns-traces",
            LogPatterns(_of_spans(config)),
            takes=ExceptionAggregate,
            key_of=_by_service,
            gives=(PatternRow, PatternName, SpanPatternSighting, DeadLetter),
        ),
        Stage(
            "pattern-news",
            NoveltyGate(config.novelty),
            takes=LogPatternSighting,
            key_of=_by_pattern,
            gives=(Insight, DeadLetter),
        ),
        # What spans record is told where logs do not: this stage waits for them, and they for nothing.
        Stage(
            "pattern-news-traces",
            NoveltyGate(replace(config.novelty, source="spans")),
            takes=PatternSighting,
            key_of=_by_pattern,
            gives=(Insight, DeadLetter),
        ),
        Stage(
            "request-shapes",
            RequestEffects(config.effects),
            takes=EffectAggregate,
            key_of=_by_service,
            gives=(LoggingWindows, Insight, DeadLetter),
        ),
        Stage("log-silence", LogSilence(config.silence), takes=LoggingWindows, key_of=_by_env, gives=(Insight,)),
        Stage(
            "telemetry-gap", TelemetryGap(config.gap), takes=EnvActivity, key_of=_by_env, gives=(Insight, DeadLetter)
        ),
    )


def _of_spans(config: GraphConfig) -> LogPatternsConfig:
    """Pre-merge says when a service has spans, so what they do not throw is known as well."""
    rule = replace(config.patterns.rule, silence_counts=True, observed_ms=config.pre_aggregate.activity_report_ms)
    return replace(config.patterns, source="spans", rule=rule)


def _pre_aggregate(uid: str, signal: SignalType, config: GraphConfig) -> Stage:
    gives: tuple[type, ...] = (EnvActivity,)
    lines = ExceptionAggregate if signal == "traces" else LogAggregate
    if signal == "traces":
        gives = (SpanAggregate, CallSides, lines, *gives)
    if signal == "logs":
        gives = (lines, EffectAggregate, LoggingWindows, *gives)
    return Stage(uid, PreAggregate(config.pre_aggregate, lines), FoldedMessage, _by_partition, gives, signal)


def latency_stages(config: GraphConfig) -> tuple[Stage, ...]:
    """Latency alone, under the same uids."""
    return tuple(stage for stage in stages(config) if stage.uid in ("pre-merge", "call-pairs", "latency-spike"))


def pattern_stages(config: GraphConfig) -> tuple[Stage, ...]:
    """Error patterns of logs and of spans alone, under the same uids."""
    uids = (
        "pre-merge",
        "pre-merge-logs",
        "error-patterns",
        "error-patterns-traces",
        "pattern-news",
        "pattern-news-traces",
    )
    return tuple(stage for stage in stages(config) if stage.uid in uids)


def _by_partition(event: Any) -> str:
    return str(event.key)


def _by_service(event: Any) -> str:
    return service_key(event.env, event.service)


def _by_bucket(event: Any) -> str:
    return f"{event.env}|{event.bucket}"


def _by_env(event: Any) -> str:
    return str(event.env)


def _by_pattern(event: Any) -> str:
    return f"{event.env}|{event.pattern_id}"
