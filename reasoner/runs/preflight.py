"""Checks before a job is started: a job that cannot work, or that counts twice, is not submitted."""

from collections.abc import Iterator
from typing import Final

from jobs.settings import JobConfig
from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.topics import missing_topics, sink_specs, source_names

FLINK_VERSION: Final = "2.2"  # of the client: a cluster of another minor version does not take its jobs


def faults(config: JobConfig, rest: FlinkRest, file: str) -> list[str]:
    """Return why the job cannot work on this cluster, a sentence each with the command that mends it; none if it can.

    file: the settings as the person named them. Raises CommandFailed where the cluster, Kafka or the catalog does not
    answer.
    """
    return [*_cluster_faults(config, rest), *_topic_faults(config, file), *_table_faults(config, file)]


def notes(config: JobConfig, rest: FlinkRest) -> list[str]:
    """Return what works and may be a surprise."""
    if config.engine.checkpoint_dir or rest.setting("execution.checkpointing.dir"):
        return []
    return [
        "checkpoints are kept in the heap of the JobManager and are lost with it: set engine.checkpoint_dir, or "
        "execution.checkpointing.dir of the cluster"
    ]


def _cluster_faults(config: JobConfig, rest: FlinkRest) -> Iterator[str]:
    for job in rest.overview():
        if job.name == config.name and job.is_active:
            yield (
                f"job {config.name} is {job.state} on {rest.url} already ({job.job_id}): stop it with `reasoner stop "
                f"{config.name} --target {rest.url}`, or give this one its own name, kafka.group_id and sink topics"
            )
    slots = rest.free_slots()
    if slots < config.engine.parallelism:
        yield (
            f"{rest.url} has {slots} free slots, expected {config.engine.parallelism} (engine.parallelism): "
            "stop a job, add TaskManagers, or lower it"
        )
    version = rest.version()
    if not version.startswith(f"{FLINK_VERSION}."):
        yield f"{rest.url} runs Flink {version}, expected {FLINK_VERSION}: the job is built for that version"


def _topic_faults(config: JobConfig, file: str) -> Iterator[str]:
    kafka = config.kafka
    sources, sinks = source_names(kafka), list(sink_specs(kafka, 1))
    missing = missing_topics(kafka.bootstrap_servers, [*sources, *sinks])
    unread = [name for name in missing if name in sources]
    if unread:
        yield (
            f"Kafka at {kafka.bootstrap_servers} has no topic {', '.join(unread)}, which the job reads: create it "
            f"with `reasoner topics create --config {file} --sources`, or leave the signal out by an empty name in "
            "kafka.topics"
        )
    unwritten = [name for name in missing if name in sinks]
    if unwritten:
        yield (
            f"Kafka at {kafka.bootstrap_servers} has no topic {', '.join(unwritten)}, which the job writes: create it "
            f"with `reasoner topics create --config {file}`, or submit with --create"
        )


def _table_faults(config: JobConfig, file: str) -> Iterator[str]:
    missing = lake.missing_tables(config.lake)
    if missing:
        yield (
            f"the catalog {config.lake.uri} has no table {', '.join(missing)}: create it with `reasoner tables create "
            f"--config {file}`, or submit with --create"
        )
