"""The graph of all machines: its stages in the order of the flow. Engines build it, and tests pin its uids."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from operators.correlate.rule_book import RuleBook
from operators.correlate.sequences import RecordSequences, SequenceConfig, Sequences
from operators.correlate.signals import RuleSignals
from operators.detectors.deploys import Deploys
from operators.detectors.latency import LatencySpike
from operators.detectors.log_patterns import LogPatterns
from operators.detectors.requests import RequestEffects
from operators.detectors.telemetry_gap import TelemetryGap
from operators.emission import EmissionConfig
from operators.gates.log_silence import LogSilence
from operators.gates.novelty import NoveltyConfig, NoveltyGate
from operators.ingest.call_pairs import CallPairs
from operators.ingest.fold import FoldConfig
from operators.ingest.name_admission import PreAggregateConfig
from operators.ingest.pre_aggregate import PRE_AGGREGATES
from operators.machine import Key, Stage
from state_schemas.aggregates.activity import EnvActivity
from state_schemas.aggregates.calls import CallSides
from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.logs import ExceptionAggregate, LogAggregate
from state_schemas.aggregates.releases import ServiceReleases
from state_schemas.aggregates.requests import EffectAggregate
from state_schemas.aggregates.spans import SpanAggregate
from state_schemas.contracts.settings import BadConfig
from udfs.detect.deploys.rule import DeployConfig
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.log_patterns.rule import PatternConfig
from udfs.detect.requests.rule import EffectConfig
from udfs.detect.telemetry_gap.rule import GapConfig
from udfs.insights.ids import service_key
from udfs.rules.compiled import RuleIndex
from udfs.spans.calls import PairLimits


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """Settings of every machine; all scores are measured with the defaults."""

    fold: FoldConfig = field(default_factory=FoldConfig)
    pre_aggregate: PreAggregateConfig = field(default_factory=PreAggregateConfig)
    calls: PairLimits = field(default_factory=PairLimits)
    # Of all detectors, and so of the gates behind them.
    emission: EmissionConfig = field(default_factory=EmissionConfig)
    latency: SpikeConfig = field(default_factory=SpikeConfig)
    patterns: PatternConfig = field(default_factory=PatternConfig)
    effects: EffectConfig = field(default_factory=EffectConfig)
    novelty: NoveltyConfig = field(default_factory=NoveltyConfig)
    gap: GapConfig = field(default_factory=GapConfig)
    deploys: DeployConfig = field(default_factory=DeployConfig)
    # Sequence rules; without one their stages are left out.
    rules: SequenceConfig | None = None

    def __post_init__(self) -> None:
        times = (self.fold.times, self.calls, self.emission)
        windows_ms = {self.pre_aggregate.window_ms, *(part.window_ms for part in times)}
        latenesses_ms = {part.lateness_ms for part in times}
        index = self.rules.index if self.rules else None
        assert self.fold.rules is index, "the folds have other rules than the machines: give both the same"
        assert len(windows_ms) == len(latenesses_ms) == 1, (
            f"found windows of {sorted(windows_ms)} ms, lateness of {sorted(latenesses_ms)} ms, expected one of each: "
            "give all machines of a job the same, or a stage waits for windows that no other stage makes"
        )


def with_rules(config: GraphConfig, rules: SequenceConfig | None) -> GraphConfig:
    """Return the settings with these rules, for the folds and the machines."""
    return replace(config, rules=rules, fold=replace(config.fold, rules=rules.index if rules else None))


BY_PARTITION: Final = Key("topic|partition", lambda event: str(event.key))
BY_SERVICE: Final = Key("env|service", lambda event: service_key(event.env, event.service))
BY_BUCKET: Final = Key("env|bucket", lambda event: f"{event.env}|{event.bucket}")
BY_ENV: Final = Key("env", lambda event: str(event.env))
BY_PATTERN: Final = Key("env|pattern", lambda event: f"{event.env}|{event.pattern_id}")

ALL_RULES: Final = Key("all rules", lambda event: "rules")


def stages(config: GraphConfig) -> tuple[Stage, ...]:
    """Return every keyed stage. A uid names state in savepoints: it never changes and is never used again."""
    return (
        # One state, so that all stages get the rules in the order of the topic.
        *((Stage("rule-book", RuleBook(), ALL_RULES),) if config.rules and config.rules.from_topic else ()),
        *(
            Stage(
                f"pre-aggregate-{signal}",
                machine(config.pre_aggregate, has_rules=config.rules is not None),
                BY_PARTITION,
                signal,
            )
            for signal, machine in PRE_AGGREGATES.items()
        ),
        Stage("call-pairs", CallPairs(config.calls), BY_BUCKET),
        Stage("latency-spike", LatencySpike(config.latency, config.emission), BY_SERVICE),
        Stage("error-patterns", LogPatterns(config.patterns, config.emission), BY_SERVICE),
        # A separate stage: the watermark of two inputs is the lower one, and logs must not wait for spans.
        Stage("error-patterns-traces", LogPatterns(_of_spans(config), config.emission), BY_SERVICE),
        Stage("novelty", NoveltyGate(config.novelty, config.emission), BY_PATTERN),
        # Passes on exceptions of spans that no log has: it waits for logs, and the stage of logs waits for nothing.
        Stage("novelty-traces", NoveltyGate(replace(config.novelty, source="spans"), config.emission), BY_PATTERN),
        Stage("request-effects", RequestEffects(config.effects, config.emission), BY_SERVICE),
        Stage("log-silence", LogSilence(config.emission), BY_ENV),
        Stage("telemetry-gap", TelemetryGap(config.gap, config.emission), BY_ENV),
        Stage("deploys", Deploys(_of_reports(config), config.emission), BY_SERVICE),
        *_rule_stages(config),
    )


def _rule_stages(config: GraphConfig) -> tuple[Stage, ...]:
    if config.rules is None:
        return ()
    rules = config.rules
    return (
        Stage("rule-signals", RuleSignals(rules.index, rules.delay_ms, takes_edges=rules.from_topic), BY_ENV),
        Stage("sequences", Sequences(config.rules, config.emission), BY_BUCKET),
        Stage("record-sequences", RecordSequences(config.rules, config.emission), BY_BUCKET),
    )


def _of_spans(config: GraphConfig) -> PatternConfig:
    """Return the settings for spans: activity is reported for them, so that windows without exceptions count as 0."""
    return replace(config.patterns, source="spans", observed_ms=config.pre_aggregate.activity_report_ms)


def _of_reports(config: GraphConfig) -> DeployConfig:
    return replace(config.deploys, interval_ms=config.pre_aggregate.activity_report_ms)


@dataclass(frozen=True, slots=True)
class Job:
    """A part of the graph, under the same uids."""

    # Uids of the stages, () for all.
    uids: tuple[str, ...] = ()
    # Types of outputs that no stage and no sink of this job takes, on purpose.
    unused: tuple[type, ...] = ()
    # Whether it reads the insights of another job, as signals of rules.
    reads_insights: bool = False

    @property
    def default_config(self) -> GraphConfig:
        """Return the default settings; a job that is nothing without rules has an empty file of them."""
        rules = SequenceConfig(RuleIndex.of()) if self.reads_insights else None
        return with_rules(GraphConfig(), rules)

    def stages(self, config: GraphConfig) -> tuple[Stage, ...]:
        """Return the stages of the job. Raises BadConfig where it is nothing without rules and has none."""
        if self.reads_insights and config.rules is None:
            message = "the job has no rules: set detection.rules or kafka.topics.rules, see docs/rules.md"
            raise BadConfig(message)
        if self.reads_insights and config.rules and config.rules.index.needs_edges:
            message = "found rules with calls or called_by, which need the job with all: it pairs calls; take them out"
            raise BadConfig(message)
        if self.uids and not self.reads_insights:
            # A part of the graph lacks insights that rules need.
            config = with_rules(config, None)
        return tuple(stage for stage in stages(config) if not self.uids or stage.uid in self.uids)


_RULES: Final = ("rule-book", "rule-signals", "sequences", "record-sequences")
_PATTERNS: Final = ("error-patterns", "error-patterns-traces", "novelty", "novelty-traces")

JOBS: Final[Mapping[str, Job]] = {
    "insights": Job(),
    "latency-spikes": Job(
        ("pre-aggregate-traces", "call-pairs", "latency-spike"),
        (ExceptionAggregate, EnvActivity, EffectAggregate, ServiceReleases),
    ),
    "error-patterns": Job(
        ("pre-aggregate-traces", "pre-aggregate-logs", *_PATTERNS),
        (SpanAggregate, CallSides, EffectAggregate, LoggingWindows, EnvActivity, ServiceReleases),
    ),
    "sequence-rules": Job(
        (*(f"pre-aggregate-{signal}" for signal in PRE_AGGREGATES), *_RULES),
        (SpanAggregate, CallSides, EffectAggregate, LoggingWindows, ExceptionAggregate, LogAggregate, ServiceReleases),
        reads_insights=True,
    ),
}
