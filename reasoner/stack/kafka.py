"""A Kafka broker in one process: KRaft, broker and controller together, on loopback; data is kept between starts."""

import logging
import shutil
import socket
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path

from reasoner.errors import CommandFailed
from reasoner.stack.component import Component, last_lines
from reasoner.stack.environment import java_home, kafka_jars
from reasoner.stack.settings import LOOPBACK, StackSettings

# The 16 bytes "metric-reasoner1" as Kafka writes a UUID: a fixed id, so that the data folder can be moved.
CLUSTER_ID = "bWV0cmljLXJlYXNvbmVyMQ"

_LOG4J = Path(__file__).parent / "maven" / "kafka-log4j2.properties"

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
log.dirs={data}

# One broker: no replication. Few partitions, because each internal partition costs a file and start-up time.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0

# A topic that is created by a typing error would have the wrong partitions and retention: topics are created by the
# project's own code, with an explicit retention.
auto.create.topics.enable=false

# Collectors send up to 1 MB by default and are often configured for more.
message.max.bytes=16777216
replica.fetch.max.bytes=16777216

# Milliseconds (4 h): a job that is down for less keeps its prepared transactions.
transaction.max.timeout.ms=14400000

# Replayed and future-dated recordings must be accepted: the job rejects records that are too far ahead.
log.message.timestamp.after.max.ms=9223372036854775807

# The default of 128 MB for the compaction map would be a quarter of this broker's heap.
log.cleaner.dedupe.buffer.size=16777216
"""


def kafka(settings: StackSettings) -> Component:
    """Return the broker."""
    return Component(
        name="kafka",
        folder=_folder(settings),
        prepare=partial(_prepare, settings),
        command=lambda: [
            *(*_java(), f"-Xmx{settings.kafka_heap_mb}m", "-XX:+UseG1GC"),
            *("kafka.Kafka", str(_folder(settings) / "server.properties")),
        ],
        not_ready_because=partial(_not_ready_because, settings),
        ready_deadline_s=120.0,  # 3 s on an idle machine, 15 s on a busy one
        ports={"kafka_port": settings.kafka_port, "kafka_controller_port": settings.kafka_controller_port},
        endpoints={"kafka": settings.kafka_bootstrap},
    )


def _folder(settings: StackSettings) -> Path:
    return settings.folder / "kafka"


def _prepare(settings: StackSettings) -> None:
    """Write the settings, and format the data folder once."""
    folder, data = _folder(settings), _folder(settings) / "data"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.properties").write_text(properties(settings, data))
    if (data / "meta.properties").exists():
        return
    # Format another folder and rename it: an interrupted format leaves no incomplete folder that a start would use.
    part = folder / "data.part"
    for old in (part, data):
        shutil.rmtree(old, ignore_errors=True)
    formatted, log = folder / "format.properties", folder / "format.log"
    formatted.write_text(properties(settings, part))
    command = [*_java(), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(formatted)]
    with log.open("wb") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        reason = " ".join(last_lines(log, 3))
        message = f"Kafka's data folder {data} could not be formatted (exit code {code}): {reason}"
        raise CommandFailed(message)
    part.rename(data)


def properties(settings: StackSettings, data: Path) -> str:
    """Return the settings of the broker, a line each, with its data in a folder."""
    ports = {"port": settings.kafka_port, "controller_port": settings.kafka_controller_port}
    return _PROPERTIES.format(host=LOOPBACK, data=data, **ports)


def _java() -> list[str]:
    return [str(java_home() / "bin" / "java"), f"-Dlog4j2.configurationFile={_LOG4J}", "-cp", f"{kafka_jars()}/*"]


def _not_ready_because(settings: StackSettings) -> str | None:
    """Return None when the broker answers a request for the metadata of the cluster."""
    # The client waits longer after each attempt; a plain connection shows earlier that the broker listens.
    try:
        socket.create_connection((LOOPBACK, settings.kafka_port), timeout=1.0).close()
    except OSError as error:
        return f"no answer on {settings.kafka_bootstrap} ({error})"
    from kafka import KafkaAdminClient  # Slow to import, and only the command that waits needs it.
    from kafka.errors import KafkaError

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # It logs each refused connection during the wait.
    patience = {"request_timeout_ms": 3_000, "reconnect_backoff_max_ms": 100}
    try:
        with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap, **patience)) as admin:
            admin.describe_cluster()
    except (KafkaError, OSError) as error:
        return f"{settings.kafka_bootstrap} accepts connections but does not serve yet ({type(error).__name__})"
    return None
