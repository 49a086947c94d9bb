"""The graph of all machines: which stages there are, in the order of the flow. Engines draw it, tests pin its uids."""

from dataclasses import dataclass, field, replace
from typing import Any

from operators.detectors.capacity import Capacity, CapacityConfig
from operators.detectors.latency import LatencyConfig, LatencySpike
from operators.detectors.log_patterns import ErrorPatterns, ErrorPatternsConfig
from operators.detectors.requests import RequestShapes, RequestShapesConfig
from operators.detectors.telemetry_gap import GapConfig, TelemetryGap
from operators.gates.log_silence import LogSilence, LogSilenceConfig
from operators.gates.novelty import PatternNews, PatternNewsConfig
from operators.ingest.call_pairs import CallPairs, CallPairsConfig
from operators.ingest.fold import FoldConfig
from operators.ingest.pre_aggregate import PreMerge, PreMergeConfig
from operators.machine import Stage
from state_schemas.aggregates.activity import EnvPresence
from state_schemas.aggregates.calls import CallHalves
from state_schemas.aggregates.log_silence import LogsHeard
from state_schemas.aggregates.logs import ExceptionPartial, LogPartial
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.names import NameOverflow
from state_schemas.aggregates.novelty import PatternHeard, SourcePatternHeard, SpanPatternHeard
from state_schemas.aggregates.requests import ShapePartial
from state_schemas.aggregates.spans import SpanPartial
from state_schemas.contracts.insight import InsightRevision
from state_schemas.contracts.rows import EdgeRow, PatternName, PatternRow, RollupRow
from state_schemas.telemetry.signals import SignalType
from udfs.insights.ids import service_key


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """Settings of every machine; the defaults are the ones that everything is scored with."""

    fold: FoldConfig = field(default_factory=FoldConfig)
    pre_merge: PreMergeConfig = field(default_factory=PreMergeConfig)
    calls: CallPairsConfig = field(default_factory=CallPairsConfig)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    patterns: ErrorPatternsConfig = field(default_factory=ErrorPatternsConfig)
    shapes: RequestShapesConfig = field(default_factory=RequestShapesConfig)
    news: PatternNewsConfig = field(default_factory=PatternNewsConfig)
    silence: LogSilenceConfig = field(default_factory=LogSilenceConfig)
    gap: GapConfig = field(default_factory=GapConfig)
    capacity: CapacityConfig = field(default_factory=CapacityConfig)


def stages(config: GraphConfig) -> tuple[Stage, ...]:
    """Every keyed stage. A uid names state in savepoints: it never changes and is never used again."""
    return (
        _pre_merge("pre-merge", "traces", config),
        _pre_merge("pre-merge-logs", "logs", config),
        _pre_merge("pre-merge-metrics", "metrics", config),
        Stage("call-pairs", CallPairs(config.calls), takes=CallHalves, key_of=_by_bucket, gives=(SpanPartial,)),
        Stage(
            "latency-spike",
            LatencySpike(config.latency),
            takes=SpanPartial,
            key_of=_by_service,
            gives=(RollupRow, EdgeRow, ShapePartial, InsightRevision),
        ),
        Stage(
            "error-patterns",
            ErrorPatterns(config.patterns),
            takes=LogPartial,
            key_of=_by_service,
            gives=(PatternRow, PatternName, PatternHeard, NameOverflow, InsightRevision),
        ),
        # A stage of its own: event time of two inputs is the lesser of theirs, and logs wait for no spans.
        Stage(
            "error-patterns-traces",
            ErrorPatterns(_of_spans(config)),
            takes=ExceptionPartial,
            key_of=_by_service,
            gives=(PatternRow, PatternName, SpanPatternHeard, NameOverflow),
        ),
        Stage(
            "pattern-news",
            PatternNews(config.news),
            takes=PatternHeard,
            key_of=_by_pattern,
            gives=(InsightRevision,),
        ),
        # What spans record is told where logs do not: this stage waits for them, and they for nothing.
        Stage(
            "pattern-news-traces",
            PatternNews(replace(config.news, source="spans")),
            takes=SourcePatternHeard,
            key_of=_by_pattern,
            gives=(InsightRevision,),
        ),
        Stage(
            "request-shapes",
            RequestShapes(config.shapes),
            takes=ShapePartial,
            key_of=_by_service,
            gives=(LogsHeard, InsightRevision),
        ),
        Stage("log-silence", LogSilence(config.silence), takes=LogsHeard, key_of=_by_env, gives=(InsightRevision,)),
        Stage("telemetry-gap", TelemetryGap(config.gap), takes=EnvPresence, key_of=_by_env, gives=(InsightRevision,)),
        Stage("capacity", Capacity(config.capacity), takes=NameOverflow, key_of=_by_subject, gives=(InsightRevision,)),
    )


def _of_spans(config: GraphConfig) -> ErrorPatternsConfig:
    """Pre-merge says when a service has spans, so what they do not throw is known as well."""
    rule = replace(config.patterns.rule, silence_counts=True, heard_ms=config.pre_merge.spans_heard_ms)
    return replace(config.patterns, source="spans", rule=rule)


def _pre_merge(uid: str, signal: SignalType, config: GraphConfig) -> Stage:
    gives: tuple[type, ...] = (EnvPresence, NameOverflow)
    lines = ExceptionPartial if signal == "traces" else LogPartial
    if signal == "traces":
        gives = (SpanPartial, CallHalves, lines, *gives)
    if signal == "logs":
        gives = (lines, ShapePartial, LogsHeard, *gives)
    return Stage(uid, PreMerge(config.pre_merge, lines), FoldedMessage, _by_partition, gives, signal)


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


def _by_subject(event: Any) -> str:
    return f"{event.env}|{event.subject}|{event.service}"
