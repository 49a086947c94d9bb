"""The complete job: OTLP from Kafka through every machine to Iceberg and `insight_out`.

`python -m jobs.insights --config FILE` runs it on the cluster that Flink's environment names, or on a mini-cluster;
`--job NAME` runs a part of it, with the uids of the whole job, so that savepoints fit both.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from jobs import flink_tables, settings, sinks
from jobs.graph import JOBS
from jobs.rules_topic import rule_records, topic_at_start
from jobs.running_jobs import refuse_second
from jobs.settings import JobConfig, load
from jobs.sinks import Insert
from jobs.sources import raw_messages
from operators.correlate.rule_book import begin
from operators.machine import RuledMachine, Stage
from operators.runtime.flink import FoldMessages, ReadInsights, ReadRules
from operators.runtime.flink_graph import Sources, wire
from state_schemas.aggregates.published_rules import RuleRecord
from state_schemas.contracts.settings import BadConfig
from state_schemas.telemetry.signals import SIGNALS


def build(
    environment: StreamExecutionEnvironment,
    config: JobConfig,
    graph: Sequence[Stage],
    inserts: Sequence[Insert] = sinks.SHIPPED,
    unused: Collection[type] = (),
    *,
    reads_insights: bool = False,
) -> None:
    """Add the job to `environment`; nothing runs yet.

    A further stage in `graph` or sink in `inserts` moves no state of the others. unused: types of outputs that nothing
    takes, on purpose. reads_insights: whether the topic of insights is read, for rules. Raises BadGraph where another
    output would be lost.
    """
    tables = StreamTableEnvironment.create(environment)
    fold, rules = config.graph().fold, None
    if not any(isinstance(stage.machine, RuledMachine) for stage in graph):
        fold = replace(fold, rules=None)  # a part of the graph has no use for signals
    if any(RuleRecord in stage.machine.takes for stage in graph):
        at_start = topic_at_start(config.kafka)
        graph = [begin(stage, at_start) for stage in graph]
        fold = replace(fold, rules=fold.rules and fold.rules.updated(at_start.published))
        records = rule_records(tables, config.kafka, at_start.end_offset)
        rules = (ReadRules(config.kafka.topics.rules, at_start, graph), records)
    messages = {}
    for signal in SIGNALS:
        topic = getattr(config.kafka.topics, signal)
        driven = [stage for stage in graph if stage.signal == signal]
        if topic and driven:
            folding = FoldMessages(signal, topic, fold, driven, sinks.DEAD_LETTERS)
            messages[signal] = (folding, raw_messages(tables, signal, topic, config.kafka))
    insights = None
    if reads_insights:
        insights = (
            ReadInsights(graph),
            raw_messages(tables, "insights", config.kafka.topics.insights, config.kafka),
        )
    rows = wire(Sources(messages, rules, insights), graph, sinks.rows_of(inserts), unused)
    flink_tables.attach(tables, rows, config, inserts)


def flink_configuration(config: JobConfig) -> Configuration:
    """Return the engine settings of the job; settings that are not set here keep the value of the cluster."""
    engine = config.engine
    python = engine.python or sys.executable
    options = {
        "pipeline.name": config.name,
        "parallelism.default": str(engine.parallelism),
        "pipeline.max-parallelism": str(engine.max_parallelism),
        "execution.checkpointing.interval": f"{engine.checkpoint_interval_ms} ms",
        "execution.checkpointing.timeout": f"{engine.checkpoint_timeout_ms} ms",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "state.backend.type": engine.state_backend,
        "execution.checkpointing.incremental": str(engine.state_backend == "rocksdb").lower(),
        "python.execution-mode": "process",
        "python.fn-execution.bundle.size": str(engine.bundle_size),
        "python.fn-execution.bundle.time": str(engine.bundle_time_ms),
        # More entries than a slot has hot keys: each miss is a blocking call to the JVM.
        "python.state.cache-size": "20000",
        "python.executable": python,
        "python.client.executable": python,
        "table.exec.uid.generation": "ALWAYS",
    }
    if engine.checkpoint_dir:
        options["execution.checkpointing.dir"] = engine.checkpoint_dir
        options["execution.checkpointing.savepoint-dir"] = engine.checkpoint_dir
    flink = Configuration()
    for key, value in {**options, **engine.flink}.items():
        flink.set_string(key, value)
    return flink


def run(
    config: JobConfig,
    graph: Sequence[Stage],
    inserts: Sequence[Insert] = sinks.SHIPPED,
    unused: Collection[type] = (),
    *,
    reads_insights: bool = False,
) -> None:
    """Build and start the job; return when a bounded job ends, otherwise never.

    Raises AlreadyRuns if the cluster runs a job of this name.
    """
    environment = StreamExecutionEnvironment.get_execution_environment(flink_configuration(config))
    refuse_second(config.name, dict(environment._j_stream_execution_environment.getConfiguration().toMap()))
    build(environment, config, graph, inserts, unused, reads_insights=reads_insights)
    environment.execute(config.name)


def parsed(arguments: Sequence[str] | None = None) -> tuple[str, JobConfig]:
    """Return the job of JOBS and the settings that the command line names.

    Exit with code 2 and one message if they are wrong.
    """
    parser = ArgumentParser(description="Run the job that turns OTLP into insights, or a part of it.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--config", type=Path, help="YAML file of the job, see docs/configuration.md")
    where.add_argument("--settings", help="the text of such a file, where the job is submitted by REST")
    parser.add_argument("--job", choices=JOBS, default="insights", help="job; all have the same uids")
    parser.add_argument("--from-start", action="store_true", help="read the topics from their beginning")
    found = parser.parse_args(arguments)
    try:
        config = load(found.config) if found.config else settings.parsed(found.settings, "--settings")
    except BadConfig as error:
        parser.exit(2, f"{error}\n")
    if found.from_start:
        config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"start": "earliest"})})
    return found.job, config


def main(arguments: Sequence[str] | None = None) -> None:
    name, config = parsed(arguments)
    try:
        job = JOBS[name]
        run(config, job.stages(config.graph()), unused=job.unused, reads_insights=job.reads_insights)
    except BadConfig as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
