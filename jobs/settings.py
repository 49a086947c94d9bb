"""Settings of a job: one YAML file, validated at start; all faults are reported in one message."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jobs.graph import GraphConfig
from operators.detectors.latency import LatencyConfig
from operators.detectors.log_patterns import LogPatternsConfig
from operators.detectors.requests import RequestEffectsConfig
from operators.detectors.telemetry_gap import GapConfig
from operators.emission import EmissionConfig, EmitWhen
from operators.gates.log_silence import LogSilenceConfig
from operators.gates.novelty import NoveltyConfig
from operators.ingest.call_pairs import CallPairsConfig
from operators.ingest.fold import FoldConfig
from operators.ingest.pre_aggregate import PreAggregateConfig
from state_schemas.contracts import settings
from state_schemas.contracts.settings import BadConfig, Positive, ReaderConfig, Section
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.log_patterns.rule import PatternConfig
from udfs.event_time import TimeLimits
from udfs.logs.masking.masker import MASK_NAMES, MaskName, MaskSettings
from udfs.logs.reader import pattern_ids
from udfs.spans.calls import PairLimits
from udfs.spans.window import NameLimits


class Engine(Section):
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


class Detection(Section):
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
    dead_letter_payload: bool = False
    emit_when: EmitWhen = "early"


class JobConfig(ReaderConfig):
    """Everything a job needs. name: also shown in the dashboard."""

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
        emission = EmissionConfig(lateness_ms=d.lateness_ms, emit_when=d.emit_when)
        names = NameLimits(d.hosts_max, d.operations_max, d.callees_max)
        times = TimeLimits(lateness_ms=d.lateness_ms, future_max_ms=d.future_max_ms, age_max_ms=d.age_max_ms)
        return GraphConfig(
            fold=FoldConfig(times, masks=MaskSettings(d.masks), payload_kept=d.dead_letter_payload),
            pre_aggregate=PreAggregateConfig(d.services_max, d.envs_max, names=names),
            calls=CallPairsConfig(PairLimits(d.call_pair_ms, d.lateness_ms)),
            latency=LatencyConfig(SpikeConfig(floor_ms=d.latency_floor_ms), emission, names),
            patterns=LogPatternsConfig(
                PatternConfig(d.patterns_warm_minutes, patterns_max=d.patterns_max, seeds=self.seeds()),
                emission,
                d.patterns_top,
                d.pattern_insights,
                masks=MaskSettings(d.masks),
            ),
            novelty=NoveltyConfig(max(600_000, 2 * d.lateness_ms), emission=emission),
            effects=RequestEffectsConfig(emission=emission),
            silence=LogSilenceConfig(emission),
            gap=GapConfig(emission),
        )


def load(path: Path) -> JobConfig:
    """Read everything that a job needs. Raises BadConfig as `load` of the contracts does."""
    config = settings.load(path, JobConfig)
    config.seeds()
    return config
