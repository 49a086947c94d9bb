"""Checks before a job is started: a job that cannot work, or that counts twice, is not submitted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from jobs.graph import JOBS
from jobs.lake_catalog import classes
from jobs.running_jobs import already_runs
from jobs.settings import JobConfig
from operators.machine import Stage
from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.topic_samples import topic_states
from reasoner.clients.topics import missing_topics, sink_specs, transaction_timeout_ms_max
from reasoner.errors import CommandFailed
from reasoner.runs.way import Way, secret_properties
from reasoner.stack.environment import flink_home
from reasoner.waiting import wait_until
from state_schemas.aggregates.published_rules import RuleRecord
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import TABLES
from state_schemas.telemetry.signals import SIGNALS

FLINK_VERSION: Final = "2.2"  # of the client: a cluster of another minor version does not take its jobs
WHOLE_JOB: Final = "insights"
SLOTS_DEADLINE_S: Final = 10.0  # the slots of a job that has just ended are free a moment later


@dataclass(frozen=True, slots=True)
class Preflight:
    """The checks of one job on one cluster. Each looks at a system that may not answer, which is CommandFailed."""

    # Name of the job in JOBS.
    job: str
    config: JobConfig
    # The settings, as the person named them in the command.
    file: str
    rest: FlinkRest
    # How the job is submitted from this machine; None: not at all.
    by: Way | None = None

    def faults(self) -> list[str]:
        """Return why the job cannot work, a sentence each with the command that mends it; none if it can."""
        return [*self.cluster_faults(), *self.topic_faults(), *self.table_faults()]

    def cluster_faults(self) -> list[str]:
        return [*self._name_faults(), *self._slot_faults(), *self._version_faults(), *self.settings_faults()]

    def successor_faults(self, running_id: str) -> list[str]:
        """Return why the job cannot take over from the running one, whose slots become free."""
        rest, wanted = self.rest, self.config.engine.parallelism
        slots = rest.free_slots() + rest.used_slots(running_id)
        faults = [f"{rest.url} has {slots} slots for it, expected {wanted} (engine.parallelism)"]
        too_few = bool(rest.all_slots()) and slots < wanted
        found = [*(faults if too_few else []), *self._version_faults(), *self.settings_faults()]
        return [*found, *self.topic_faults(), *self.table_faults()]

    def notes(self) -> list[str]:
        """Return what works and may be a surprise."""
        found = []
        if not self.config.engine.checkpoint_dir and not self.rest.setting("execution.checkpointing.dir"):
            found.append(
                "checkpoints are kept in the heap of the JobManager and are lost with it: set engine.checkpoint_dir, "
                "or execution.checkpointing.dir of the cluster"
            )
        if self._has_own_client():
            found.append("topics were not looked at: kafka.properties has settings that this command does not read")
        return found

    def _name_faults(self) -> Iterator[str]:
        config, rest = self.config, self.rest
        for job in rest.overview():
            if job.name == config.name and job.is_active:
                yield already_runs(config.name, job.state, job.job_id, rest.url)

    def _slot_faults(self) -> Iterator[str]:
        rest, wanted = self.rest, self.config.engine.parallelism
        if rest.all_slots() and not self._slots_become_free(wanted):  # none at all: the cluster starts them on demand
            yield (
                f"{rest.url} has {rest.free_slots()} free slots, expected {wanted} (engine.parallelism): stop a job, "
                "add TaskManagers, or lower it"
            )

    def _version_faults(self) -> Iterator[str]:
        version = self.rest.version()
        if not version.startswith(f"{FLINK_VERSION}."):
            yield f"{self.rest.url} runs Flink {version}, expected {FLINK_VERSION}: the job is built for that version"

    def settings_faults(self) -> Iterator[str]:
        """Yield why the settings may not be sent with a request, which makes them arguments of a process."""
        secrets = secret_properties(self.config) if self.by == "rest" else []
        if secrets:
            yield (
                f"{', '.join(secrets)} would be an argument of a process beside the JobManager, which other users of "
                "that machine and its log may see: submit with --by client; or take the value from a file there by a "
                "provider of Kafka's client or a *_file setting of the lake (docs/dashboard.md)"
            )

    def _slots_become_free(self, wanted: int) -> bool:
        try:
            wait_until(lambda: self.rest.free_slots() >= wanted, f"{wanted} slots are free", SLOTS_DEADLINE_S)
        except CommandFailed:
            return False
        return True

    def topic_faults(self) -> Iterator[str]:
        if self._has_own_client():
            return
        kafka = self.config.kafka
        sources, sinks, rules = self._sources(), list(sink_specs(kafka, 1)), self._rules()
        missing = missing_topics(kafka.bootstrap_servers, [*sources, *sinks, *rules])
        unread = [name for name in missing if name in sources]
        if unread:
            yield (
                f"Kafka at {kafka.bootstrap_servers} has no topic {', '.join(unread)}, which the job reads: create it "
                f"with `reasoner topics create --config {self.file} --sources`, or leave the signal out by an empty "
                "name in kafka.topics"
            )
        unwritten = [name for name in missing if name in sinks]
        if unwritten:
            yield (
                f"Kafka at {kafka.bootstrap_servers} has no topic {', '.join(unwritten)}, which the job writes: create "
                f"it with `reasoner topics create --config {self.file}`, or submit with --create"
            )
        if any(name in rules for name in missing):
            yield (
                f"Kafka at {kafka.bootstrap_servers} has no topic {kafka.topics.rules}, from which the job takes its "
                f"rules: create it with `reasoner topics create --config {self.file}`, or submit with --create"
            )
        elif rules:
            yield from self._rules_topic_faults(kafka.topics.rules)
        if kafka.guarantee == "exactly-once":
            yield from self._timeout_faults()

    def _rules_topic_faults(self, topic: str) -> Iterator[str]:
        """Yield why a job that starts anew could have other rules than one that has run since they were published."""
        state = topic_states(self.config.kafka.bootstrap_servers, [topic])[topic]
        if state.partitions != 1:
            yield (
                f"the topic of rules {topic} has {state.partitions} partitions, expected 1, so that rules come in one "
                "order: name a new topic in kafka.topics.rules, create it with `reasoner topics create --config "
                f"{self.file}`, and publish the rules again"
            )
        cleanup = state.cleanup.split(",")
        if "compact" not in cleanup:
            yield (
                f"the topic of rules {topic} has cleanup.policy {state.cleanup}, expected compact, so that no rule is "
                "lost when its record is old: set it with `kafka-configs.sh --alter --entity-type topics --entity-name "
                f"{topic} --add-config cleanup.policy=compact`, and publish the rules again"
            )
        elif "delete" in cleanup and state.retention_ms >= 0:
            yield (
                f"the topic of rules {topic} has cleanup.policy {state.cleanup} and retention.ms {state.retention_ms}, "
                "expected compact, or retention.ms -1: a rule is lost when its record is old; set it with "
                f"`kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config "
                "cleanup.policy=compact`, and publish the rules again"
            )

    def _timeout_faults(self) -> Iterator[str]:
        kafka = self.config.kafka
        longest = transaction_timeout_ms_max(kafka.bootstrap_servers)
        if longest is not None and kafka.transaction_timeout_ms > longest:
            yield (
                f"kafka.transaction_timeout_ms is {kafka.transaction_timeout_ms}, and the broker at "
                f"{kafka.bootstrap_servers} accepts at most {longest}: raise its transaction.max.timeout.ms, or lower "
                "the timeout, engine.checkpoint_timeout_ms and kafka.outage_ms"
            )

    def _rules(self) -> list[str]:
        """Return the topic of rules, if this job has a stage that reads it."""
        is_read = any(RuleRecord in stage.machine.takes for stage in self._stages)
        return [self.config.kafka.topics.rules] if is_read else []

    def _sources(self) -> list[str]:
        """Return the topics that this job reads: those of the signals that drive a stage of it."""
        driven = {stage.signal for stage in self._stages}
        topics = (getattr(self.config.kafka.topics, signal) for signal in SIGNALS if signal in driven)
        return [topic for topic in topics if topic]

    def _tables(self) -> set[str]:
        """Return the tables that this job writes: those whose rows a stage of it gives."""
        given = {given for stage in self._stages for given in stage.machine.gives}
        return {spec.name for spec in TABLES if any(issubclass(one, spec.row or Insight) for one in given)}

    def table_faults(self) -> Iterator[str]:
        if self.by == "client":
            yield from self._jar_faults()
        written = self._tables()
        missing = [name for name in lake.missing_tables(self.config.lake) if name in written]
        if missing:
            yield (
                f"the catalog {self.config.lake.place} has no table {', '.join(missing)}: create it with `reasoner "
                f"tables create --config {self.file}`, or submit with --create"
            )

    def _jar_faults(self) -> Iterator[str]:
        """Yield why Flink's client, which opens the tables when it plans the job, cannot load a class of the lake."""
        of_aws = any(".iceberg.aws." in name for name in classes(self.config.lake).values())
        if of_aws and not any((flink_home() / "lib").glob("iceberg-aws-bundle-*.jar")):
            yield (
                f"{flink_home()}/lib has no iceberg-aws-bundle, which tables on S3 and a catalog of Glue need: run "
                "`reasoner setup s3`; the image or folder of a cluster elsewhere needs the same jar"
            )

    @property
    def _stages(self) -> Sequence[Stage]:
        return JOBS[self.job].stages(self.config.graph())

    def _has_own_client(self) -> bool:
        """Return whether brokers are reached by settings of the client, which the commands of this package lack."""
        return bool(self.config.kafka.properties)
