"""A Kafka broker in one process: KRaft, broker and controller together, on loopback; data is kept between starts."""

import logging
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from reasoner.errors import CommandFailed
from reasoner.stack.component import last_lines
from reasoner.stack.environment import java_home, kafka_jars
from reasoner.stack.settings import LOOPBACK, StackSettings

__all__ = ["Kafka"]

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


@dataclass(frozen=True, slots=True)
class Kafka:
    """The broker; implements Component."""

    settings: StackSettings

    name: ClassVar[str] = "kafka"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    ready_deadline_s: ClassVar[float] = 120.0  # 3 s on an idle machine, 15 s on a busy one.
    setpriv: ClassVar[Sequence[str]] = ()

    @property
    def folder(self) -> Path:
        return self.settings.folder / "kafka"

    @property
    def ports(self) -> Mapping[str, int]:
        return {
            "kafka_port": self.settings.kafka_port,
            "kafka_controller_port": self.settings.kafka_controller_port,
        }

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.settings.kafka_port}"

    @property
    def endpoints(self) -> Mapping[str, str]:
        return {"kafka": self.bootstrap}

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        """Write the settings, and format the data folder once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_properties(self.folder / "server.properties", self._data)
        if (self._data / "meta.properties").exists():
            return
        # Format another folder and rename it: an interrupted format leaves no incomplete folder that a start would use.
        part = self.folder / "data.part"
        for folder in (part, self._data):
            shutil.rmtree(folder, ignore_errors=True)
        self._write_properties(self.folder / "format.properties", part)
        self._format(self.folder / "format.properties")
        part.rename(self._data)

    def command(self) -> list[str]:
        heap = f"-Xmx{self.settings.kafka_heap_mb}m"
        return [*self._java(), heap, "-XX:+UseG1GC", "kafka.Kafka", str(self.folder / "server.properties")]

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def not_ready_because(self) -> str | None:
        """Return None when the broker answers a request for the metadata of the cluster."""
        # The client waits longer after each attempt; a plain connection shows earlier that the broker listens.
        try:
            socket.create_connection((LOOPBACK, self.settings.kafka_port), timeout=1.0).close()
        except OSError as error:
            return f"no answer on {self.bootstrap} ({error})"
        from kafka import KafkaAdminClient  # Slow to import, and only the command that waits needs it.
        from kafka.errors import KafkaError

        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # It logs each refused connection during the wait.
        try:
            admin = KafkaAdminClient(
                bootstrap_servers=self.bootstrap, request_timeout_ms=3_000, reconnect_backoff_max_ms=100
            )
        except (KafkaError, OSError) as error:
            return f"no answer on {self.bootstrap} ({type(error).__name__})"
        try:
            admin.describe_cluster()
        except (KafkaError, OSError) as error:
            return f"{self.bootstrap} accepts connections but does not serve yet ({type(error).__name__})"
        finally:
            admin.close()
        return None

    def _java(self) -> list[str]:
        return [
            str(java_home() / "bin" / "java"),
            f"-Dlog4j2.configurationFile={_LOG4J}",
            "-cp",
            f"{kafka_jars()}/*",
        ]

    def _write_properties(self, path: Path, data: Path) -> None:
        text = _PROPERTIES.format(
            host=LOOPBACK,
            port=self.settings.kafka_port,
            controller_port=self.settings.kafka_controller_port,
            data=data,
        )
        path.write_text(text)

    def _format(self, properties: Path) -> None:
        command = [*self._java(), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
        log = self.folder / "format.log"
        with log.open("wb") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
        if code != 0:
            message = f"Kafka's data folder {self._data} could not be formatted (exit code {code}): " + " ".join(
                last_lines(log, 3)
            )
            raise CommandFailed(message)
