"""Replay of recordings through the graph on either engine; both give the same insights."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from jobs.graph import stages
from jobs.settings import Detection, Engine, JobConfig
from reasoner.clients import lake
from reasoner.clients.insight_topic import last_revisions, read_all, sort_key
from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.recordings.player import PlayOptions, play
from reasoner.recordings.read import BadLines, read
from reasoner.recordings.reshape import placed
from reasoner.runs.job_process import job_process, lake_in
from reasoner.runs.local_run import TOPICS, LocalRun, StagesOf
from reasoner.stack.running import running
from reasoner.stack.settings import StackSettings
from state_schemas.contracts.insight import Insight, from_json, to_json
from state_schemas.contracts.settings import Kafka

PARTITIONS: Final = 4
FLINK_DEADLINE_S: Final = 1_800.0

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What a replay looks for, and which of it is returned."""

    # Every revision; otherwise of each insight the last one.
    all_revisions: bool = False
    # File or folder of sequence rules.
    rules: Path | None = None

    @property
    def detection(self) -> Detection:
        """Return the settings: without earlier revisions only final insights are emitted."""
        return Detection(emit_when="early" if self.all_revisions else "final", rules=self.rules)


def settings(
    detection: Detection, kafka: str = "127.0.0.1:9092", parallelism: int = 1, lake_folder: Path = Path("/nonexistent")
) -> JobConfig:
    """Return the default settings of the job for a replay: bounded, and waiting for every partition."""
    # A bounded job ends at the first checkpoint after its input.
    engine = Engine(parallelism=parallelism, state_backend="hashmap", checkpoint_interval_ms=2_000)
    sources = Kafka(bootstrap_servers=kafka, bounded=True, idle_ms=0)
    return JobConfig(name="replay", kafka=sources, lake=lake_in(lake_folder), engine=engine, detection=detection)


def replay_local(
    paths: Sequence[Path], bad: BadLines, options: ReplayOptions, *, stages_of: StagesOf = stages
) -> list[Insight]:
    """Return the insights of the recordings, in fixed order, computed in this process.

    stages_of: returns the stages from their settings, those of the shipped job by default.
    """
    run = LocalRun(settings(options.detection).graph(), stages_of=stages_of)
    bodies = [to_json(out) for out in run.run(placed(read(paths, bad), PARTITIONS)) if isinstance(out, Insight)]
    return _ordered(bodies, all_revisions=options.all_revisions)


def replay_flink(
    paths: Sequence[Path], bad: BadLines, report: Report, options: ReplayOptions, *, parallelism: int
) -> list[Insight]:
    """Return the insights of the recordings, computed by a temporary broker and Flink mini-cluster on free ports."""
    with tempfile.TemporaryDirectory(prefix="reasoner-replay-") as name:
        folder = Path(name)
        stack_settings = StackSettings(folder=folder / "stack").with_auto_ports()
        with running(stack_settings, ["kafka"], report=report) as stack:
            kafka = stack.settings.kafka_bootstrap
            config = settings(options.detection, kafka, parallelism, folder)
            fill(paths, bad, config)
            lake.create_tables(config.lake)
            report("running the job on a Flink mini-cluster")
            with job_process(config, folder) as job:
                job.wait(FLINK_DEADLINE_S)
            bodies = read_all(kafka, config.kafka.topics.insights)
    return _ordered(bodies, all_revisions=options.all_revisions)


def fill(paths: Sequence[Path], bad: BadLines, config: JobConfig) -> None:
    """Create the topics of the job, and send it the recordings."""
    # Retention is by record timestamp: a recording of last year would be deleted while it is written.
    forever = TopicSpec(PARTITIONS, KEEP_FOR_EVER_MS)
    topics, bootstrap = config.kafka.topics, config.kafka.bootstrap_servers
    create_topics(bootstrap, dict.fromkeys((*TOPICS.values(), topics.insights, topics.rejected), forever))
    play(placed(read(paths, bad), PARTITIONS), bootstrap, TOPICS, PlayOptions(compression="gzip"))


def _ordered(bodies: Sequence[bytes], *, all_revisions: bool) -> list[Insight]:
    if not all_revisions:
        return last_revisions(bodies)
    found = sorted((from_json(body) for body in bodies), key=sort_key)
    repeated = [b.insight_id for a, b in pairwise(found) if (a.insight_id, a.revision) == (b.insight_id, b.revision)]
    assert not repeated, f"the same revision was emitted twice for {repeated}: exactly-once is broken"
    return found
