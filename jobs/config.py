"""Settings of a job: one YAML file, validated at start; every fault is told in one message."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.graph import GraphConfig
from operators.call_pairs import CallPairsConfig
from operators.capacity import CapacityConfig
from operators.error_patterns import ErrorPatternsConfig
from operators.fold import FoldConfig
from operators.frontier import Announce, FrontierConfig
from operators.latency_spike import LatencyConfig
from operators.log_silence import LogSilenceConfig
from operators.pattern_news import PatternNewsConfig
from operators.pre_merge import PreMergeConfig
from operators.request_shapes import RequestShapesConfig
from operators.telemetry_gap import GapConfig
from udfs.baseline import SpikeConfig
from udfs.calls import PairLimits
from udfs.fold_spans import TimeLimits
from udfs.log_lines import pattern_ids
from udfs.masking import MASK_NAMES, MaskName, MaskSettings
from udfs.partials import NameLimits
from udfs.pattern_rule import PatternConfig

Positive = Annotated[int, Field(gt=0)]


class BadConfig(ValueError):
    """The settings cannot be used; the message lists everything that is wrong with them."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Topics(_Section):
    """Names of the topics. An empty name of a source leaves that signal out."""

    traces: str = "trace_events"
    logs: str = "logs_raw"
    metrics: str = "metrics_rollup"
    insights: Annotated[str, Field(min_length=1)] = "insight_out"
    rejected: Annotated[str, Field(min_length=1)] = "insight_rejected"


class Kafka(_Section):
    """start: where to begin without a savepoint. bounded: stop at the end that the topics have at start.

    idle_ms: a partition silent for so long does not hold event time up; 0 waits for ever (recordings).
    guarantee: exactly-once shows insights after each checkpoint; at-least-once at once, with the same ids.
    transaction_timeout_ms: must be under the broker's transaction.max.timeout.ms and over checkpoint time + outage.
    """

    bootstrap_servers: Annotated[str, Field(min_length=1)] = "127.0.0.1:9092"
    group_id: Annotated[str, Field(min_length=1)] = "metric-reasoner"
    topics: Topics = Topics()
    start: Literal["earliest", "latest"] = "earliest"
    bounded: bool = False
    out_of_order_ms: Annotated[int, Field(ge=0, le=99_000, multiple_of=1_000)] = 5_000
    idle_ms: Annotated[int, Field(ge=0)] = 30_000
    guarantee: Literal["exactly-once", "at-least-once"] = "exactly-once"
    transaction_timeout_ms: Positive = 900_000
    properties: dict[str, str] = Field(default_factory=dict)


class Lake(_Section):
    """Iceberg catalog over JDBC. uri: `jdbc:sqlite:…` (one process only) or `jdbc:postgresql://…`.

    password_file: a file with the password, so that it stands in no environment and no log.
    """

    uri: Annotated[str, Field(pattern=r"^jdbc:(sqlite|postgresql):.+")]
    warehouse: Annotated[str, Field(pattern=r"^(file|s3|s3a|gs|abfs)://?.+")]
    user: str = ""
    password_file: Path | None = None
    properties: dict[str, str] = Field(default_factory=dict)


class Engine(_Section):
    """How Flink runs it. The bundle sizes are the measured best of the throughput bench (docs/sizing.md).

    flink: further options of Flink itself, by their own names.
    """

    parallelism: Positive = 2
    max_parallelism: Positive = 720
    checkpoint_interval_ms: Positive = 30_000
    checkpoint_dir: str = ""
    state_backend: Literal["hashmap", "rocksdb"] = "rocksdb"
    bundle_size: Positive = 10_000
    bundle_time_ms: Positive = 1_000
    python: str = ""
    flink: dict[str, str] = Field(default_factory=dict)


class Detection(_Section):
    """Settings of the machines, in the words of their own configs. Defaults are what everything is scored with."""

    lateness_ms: Annotated[int, Field(ge=0)] = 120_000
    future_max_ms: Annotated[int, Field(ge=0)] = 300_000
    age_max_ms: Positive = 7 * 24 * 3_600_000
    services_max: Positive = 5_000
    envs_max: Positive = 50
    hosts_max: Positive = 200
    operations_max: Positive = 200
    callees_max: Positive = 200
    call_pair_ms: Positive = 30_000
    latency_floor_ms: Annotated[float, Field(ge=0)] = 25.0
    masks: tuple[MaskName, ...] = MASK_NAMES
    patterns_max: Positive = 1_000
    patterns_top: Positive = 20
    pattern_insights: bool = True
    patterns_warm_minutes: Annotated[int, Field(ge=0)] = 10
    pattern_seeds: Path | None = None
    decoder: Literal["scan", "upb"] = "scan"
    dead_letter_payload: bool = False
    announce: Announce = "reported"


class JobConfig(_Section):
    """Everything a job needs. name: shown in the dashboard, and the prefix of Kafka transactions."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,60}$")] = "insights"
    kafka: Kafka = Kafka()
    lake: Lake
    engine: Engine = Engine()
    detection: Detection = Detection()

    def seeds(self) -> frozenset[str]:
        """Ids of the patterns in `detection.pattern_seeds`. Raises BadConfig where it cannot be read."""
        path = self.detection.pattern_seeds
        if path is None:
            return frozenset()
        try:
            return pattern_ids(path.read_text(), MaskSettings(self.detection.masks))
        except (OSError, UnicodeDecodeError) as error:
            message = f"detection.pattern_seeds: {path} cannot be read: {error}; expected a text file, a line a pattern"
            raise BadConfig(message) from error

    def graph(self) -> GraphConfig:
        """The same settings as the machines take them."""
        d = self.detection
        frontier = FrontierConfig(lateness_ms=d.lateness_ms, announce=d.announce)
        names = NameLimits(d.hosts_max, d.operations_max, d.callees_max)
        times = TimeLimits(lateness_ms=d.lateness_ms, future_max_ms=d.future_max_ms, age_max_ms=d.age_max_ms)
        return GraphConfig(
            fold=FoldConfig(times, d.decoder, masks=MaskSettings(d.masks), payload_kept=d.dead_letter_payload),
            pre_merge=PreMergeConfig(d.services_max, d.envs_max, names=names),
            calls=CallPairsConfig(PairLimits(d.call_pair_ms, d.lateness_ms)),
            latency=LatencyConfig(SpikeConfig(floor_ms=d.latency_floor_ms), frontier, names),
            patterns=ErrorPatternsConfig(
                PatternConfig(d.patterns_warm_minutes, patterns_max=d.patterns_max, seeds=self.seeds()),
                frontier,
                d.patterns_top,
                d.pattern_insights,
            ),
            news=PatternNewsConfig(max(600_000, 2 * d.lateness_ms), frontier=frontier),
            shapes=RequestShapesConfig(frontier=frontier),
            silence=LogSilenceConfig(frontier),
            gap=GapConfig(frontier),
            capacity=CapacityConfig(lateness_ms=d.lateness_ms),
        )


def load(path: Path) -> JobConfig:
    """Raises BadConfig with all faults, each with its place, what was found and what is expected."""
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        message = f"{path}: cannot be read as YAML: {error}"
        raise BadConfig(message) from error
    try:
        config = JobConfig.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        faults = "\n".join(_fault(fault["loc"], fault["input"], fault["msg"]) for fault in error.errors())
        message = f"{path}: {error.error_count()} faults, nothing was started:\n{faults}\nsee docs/configuration.md"
        raise BadConfig(message) from error
    config.seeds()
    return config


def _fault(place: Sequence[int | str], found: object, expected: str) -> str:
    return f"  {'.'.join(str(part) for part in place) or '(file)'}: found {found!r:.80}: {expected}"
