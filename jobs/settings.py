"""Settings of a job: one YAML file, validated at start; one message reports all faults."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from jobs.graph import GraphConfig
from jobs.rules import load_rules
from jobs.shipped import rules_by_default
from operators.correlate.sequences import SequenceConfig
from operators.emission import EmissionConfig, EmitWhen
from operators.gates.novelty import NoveltyConfig
from operators.ingest.fold import FoldConfig
from operators.ingest.name_admission import PreAggregateConfig
from state_schemas.contracts import settings
from state_schemas.contracts.settings import CHECKPOINT_INTERVAL_MS, BadConfig, Positive, ReaderConfig, Section
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.log_patterns.rule import PatternConfig
from udfs.event_time import TimeLimits
from udfs.logs.masking.masker import MASK_NAMES, MaskName, MaskSettings
from udfs.logs.reader import pattern_ids
from udfs.rules.compiled import RuleIndex
from udfs.spans.calls import PairLimits
from udfs.spans.window import NameLimits

_INSTEAD: Final = {
    "execution.checkpointing.interval": "set engine.checkpoint_interval_ms instead",
    "execution.checkpointing.timeout": "set engine.checkpoint_timeout_ms instead",
    "python.execution-mode": "remove it, the job runs in processes of Python only (docs/decisions/0003)",
}


def _without_own_options(flink: dict[str, str]) -> dict[str, str]:
    """Refuse options on which the timeout of transactions or the state depend."""
    faults = [f"engine.flink has {key}: {_INSTEAD[key]}" for key in sorted(flink.keys() & _INSTEAD.keys())]
    if faults:
        raise ValueError(", ".join(faults))
    return flink


class Engine(Section):
    """Settings of Flink for this job.

    The defaults of the bundle are the best values that the throughput benchmark measured (docs/sizing.md).
    """

    # Parallel subtasks of each step. Each has a slot and a Python worker of its own.
    parallelism: Positive = 1
    # Number of key groups of the state; a savepoint cannot be restored with another number.
    max_parallelism: Positive = 720
    # Milliseconds between checkpoints; exactly-once insights become visible with each checkpoint.
    checkpoint_interval_ms: Positive = CHECKPOINT_INTERVAL_MS
    # Milliseconds after which a checkpoint that is not complete is given up; the next one is tried.
    checkpoint_timeout_ms: Positive = 300_000
    # Folder of checkpoints and savepoints; "" takes that of the cluster.
    checkpoint_dir: str = ""
    # Where keyed state is kept: `hashmap` on the heap of the JVM, `rocksdb` on disk.
    state_backend: Literal["hashmap", "rocksdb"] = "rocksdb"
    # Records that Flink sends to a Python worker in one bundle, at most.
    bundle_size: Positive = 10_000
    # Milliseconds after which a bundle is processed although it is not full.
    bundle_time_ms: Positive = 1_000
    # Interpreter of the workers; "" takes the interpreter that submits the job.
    python: str = ""
    # Further options of Flink, under Flink's own names; they override the settings above.
    flink: Annotated[dict[str, str], AfterValidator(_without_own_options)] = Field(default_factory=dict)


class Detection(Section):
    """Settings of the machines, under the names of their own configs.

    All published scores are measured with the defaults.
    """

    # Allowed lateness in milliseconds: a record that is older than its Kafka timestamp by more than this is late.
    lateness_ms: Annotated[int, Field(ge=0)] = 120_000
    # Milliseconds that an event time may be ahead of the Kafka timestamp; records beyond it are rejected.
    future_max_ms: Annotated[int, Field(ge=0)] = 300_000
    # Milliseconds that an event time may be behind the Kafka timestamp (7 days); older records are rejected.
    age_max_ms: Positive = 7 * 24 * 3_600_000
    # Services with a name of their own in an environment, per source partition; bounds keys and state. Others: `other`.
    services_max: Positive = 5_000
    # Environments with a name of their own, per source partition. Others are counted as `other`.
    envs_max: Positive = 50
    # Hosts of a service with a row of their own in a window.
    hosts_max: Positive = 200
    # Operations of a service with a row of their own in a window.
    operations_max: Positive = 200
    # Callees of a service with a row of their own in a window.
    callees_max: Positive = 200
    # Milliseconds within which the messages of both sides of a call must have been sent to be paired.
    call_pair_ms: Positive = 30_000
    # Milliseconds by which a latency must exceed the usual P95 to count as slow.
    latency_floor_ms: Annotated[float, Field(ge=0)] = 25.0
    # Variable or sensitive parts of a log line that are replaced by their kind. A change starts the registries again.
    masks: tuple[MaskName, ...] = MASK_NAMES
    # Patterns in the registry of a service, for severe lines and for exceptions each; further patterns are `other`.
    patterns_max: Positive = 1_000
    # Patterns of a window with a row of their own in `error_patterns`.
    patterns_top: Positive = 20
    # Whether insights about patterns are emitted; the rows are written in both cases.
    pattern_insights: bool = True
    # Minutes with lines, or with spans, that a service needs before a pattern can be new.
    patterns_warm_minutes: Annotated[int, Field(ge=0)] = 10
    # Text file of patterns that are never new: an example line or a pattern id per line.
    pattern_seeds: Path | None = None
    # Whether dead letters contain the bytes of the message, which may hold personal data.
    dead_letter_payload: bool = False
    # File or folder of sequence rules (docs/rules.md).
    rules: Path | None = None
    # Whether the rules of this package are looked for too, but those that are on request (docs/rules.md).
    shipped_rules: bool = False
    # `early`: emit at the end of a window and correct later. `final`: emit only when the window is final.
    emit_when: EmitWhen = "early"


class JobConfig(ReaderConfig):
    """All settings of a job. The dashboard of Flink also shows `name`."""

    engine: Engine = Engine()
    detection: Detection = Detection()

    @model_validator(mode="after")
    def _transactions_outlive_checkpoints(self) -> Self:
        """Refuse a timeout by which the broker would abort what the next checkpoint still commits."""
        kafka, engine = self.kafka, self.engine
        open_ms = max(engine.checkpoint_interval_ms, engine.checkpoint_timeout_ms)
        needed = open_ms + engine.checkpoint_timeout_ms + kafka.outage_ms
        if kafka.guarantee == "exactly-once" and kafka.transaction_timeout_ms < needed:
            message = (
                f"kafka.transaction_timeout_ms: found {kafka.transaction_timeout_ms}: expected at least {needed}, the "
                "longer of engine.checkpoint_interval_ms and engine.checkpoint_timeout_ms, plus the timeout, plus "
                "kafka.outage_ms: the broker would abort insights that wait for their checkpoint"
            )
            raise ValueError(message)
        return self

    def seeds(self) -> frozenset[str]:
        """Return the ids of the patterns in `detection.pattern_seeds`. Raises BadConfig if it cannot be read."""
        path = self.detection.pattern_seeds
        if path is None:
            return frozenset()
        try:
            return pattern_ids(path.read_text(), MaskSettings(self.detection.masks))
        except (OSError, UnicodeDecodeError) as error:
            message = f"detection.pattern_seeds: {path} cannot be read: {error}; expected a text file, a line a pattern"
            raise BadConfig(message) from error

    @cached_property
    def rules(self) -> RuleIndex | None:
        """Return the rules of `detection.rules` and of this package, None where the job looks for no sequence at all.

        Of two of one id that of the file holds. Read once, so that the folds and the machines of a job have the same.
        Raises BadConfig with all their faults.
        """
        d = self.detection
        if not (d.rules or d.shipped_rules or self.kafka.topics.rules):
            return None
        own = load_rules(d.rules) if d.rules else RuleIndex.of()
        shipped = rules_by_default() if d.shipped_rules else RuleIndex.of()
        return RuleIndex.of((shipped.published | own.published).values())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other settings, which reads rules of its own: pydantic copies what was read as well."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("rules", None)
        return copied

    def graph(self) -> GraphConfig:
        """Return the same settings as the configs of the machines. Raises BadConfig where a file of them is wrong."""
        d = self.detection
        names = NameLimits(d.hosts_max, d.operations_max, d.callees_max)
        rules = self.rules
        times = TimeLimits(lateness_ms=d.lateness_ms, future_max_ms=d.future_max_ms, age_max_ms=d.age_max_ms)
        return GraphConfig(
            fold=FoldConfig(times, masks=MaskSettings(d.masks), payload_kept=d.dead_letter_payload, rules=rules),
            pre_aggregate=PreAggregateConfig(d.services_max, d.envs_max, names=names),
            calls=PairLimits(d.call_pair_ms, d.lateness_ms),
            emission=EmissionConfig(lateness_ms=d.lateness_ms, emit_when=d.emit_when),
            latency=SpikeConfig(floor_ms=d.latency_floor_ms, names=names),
            patterns=PatternConfig(
                d.patterns_warm_minutes,
                patterns_max=d.patterns_max,
                seeds=self.seeds(),
                top=d.patterns_top,
                insights=d.pattern_insights,
                masks=MaskSettings(d.masks),
            ),
            novelty=NoveltyConfig(max(600_000, 2 * d.lateness_ms)),
            rules=None if rules is None else SequenceConfig(rules, from_topic=bool(self.kafka.topics.rules)),
        )


def load(path: Path) -> JobConfig:
    """Return all settings of a job. Raises BadConfig as `load` of the contracts does."""
    return _whole(settings.load(path, JobConfig))


def parsed(text: str, place: str) -> JobConfig:
    """Return all settings of a job from YAML text, as `load` does. place: where it comes from, for messages."""
    return _whole(settings.parsed(text, place, JobConfig))


def _whole(config: JobConfig) -> JobConfig:
    """Return the settings when the files that they name have been read. Raises BadConfig where one cannot be."""
    config.seeds()
    _ = config.rules
    return config
