"""Ports, folder and sizes of the stack: flags override `REASONER_*` variables, which override defaults."""

import os
import socket
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from reasoner.errors import WrongUse
from reasoner.folders import run_folder
from state_schemas.contracts.settings import expected

AUTO_PORT = 0
LOOPBACK = "127.0.0.1"
POSTGRES_DATABASE = "lake"
POSTGRES_USER = "reasoner"
# Settings with a flag of `reasoner stack up`.
FLAGS: Final = (
    *("folder", "kafka_port", "kafka_controller_port", "postgres_port", "s3_port", "redis_port"),
    *("flink_rest_port", "flink_rpc_port", "prometheus_port", "alertmanager_port"),
    *("flink_taskmanagers", "flink_slots"),
)
_SERVER_PORTS: Final = range(10_000, 32_768)  # Linux gives clients the ports from 32,768 on (ip_local_port_range)


def _auto_is_zero(value: Any) -> Any:
    return AUTO_PORT if value == "auto" else value


# 0 or "auto": choose a free port when the component starts.
Port = Annotated[int, BeforeValidator(_auto_is_zero), Field(ge=0, le=65_535)]
# A size in Flink's notation, kept as text because it is written unchanged into Flink's configuration.
MemorySize = Annotated[str, Field(pattern=r"^[1-9][0-9]*[mg]$")]


class StackSettings(BaseModel):
    """Settings of the stack. Each field has a variable: kafka_port is REASONER_KAFKA_PORT."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Folder of everything that the stack writes: data, logs, process records. `load` and `resolved` make it absolute.
    folder: Path = Field(default_factory=run_folder)
    # Port of the broker for clients.
    kafka_port: Port = 9092
    # Port of the controller inside the broker's process.
    kafka_controller_port: Port = 9093
    # Heap of the broker in MB.
    kafka_heap_mb: Annotated[int, Field(ge=128, le=65_536)] = 256
    # Port of the server; not 5432, because a server of the distribution may use it.
    postgres_port: Port = 5433
    # Port of the S3 server.
    s3_port: Port = 7070
    # Port of Redis; not 6379, because a server of the distribution may use it.
    redis_port: Port = 6380
    # Port of the REST API and the dashboard.
    flink_rest_port: Port = 8081
    # Port of the JobManager for TaskManagers.
    flink_rpc_port: Port = 6123
    # Port of the JobManager's metrics; TaskManagers have the next ones.
    flink_metrics_port: Port = 9249
    # Whether Prometheus can read metrics there. Flink's reporter listens on all addresses of the machine.
    flink_metrics: bool = False
    # Whether Flink's s3:// is the S3 server of the folder.
    flink_s3: bool = False
    # YAML file of the job that an application cluster runs; without it Flink is a session cluster.
    flink_application: Path | None = None
    # Savepoint from which the application goes on.
    flink_savepoint: str = ""
    # Number of worker processes. One is enough for the 620 spans/s of a try (docs/sizing.md).
    flink_taskmanagers: Annotated[int, Field(ge=1, le=16)] = 1
    # Slots of each worker: parallel subtasks of a step.
    flink_slots: Annotated[int, Field(ge=1, le=64)] = 2
    # Memory of the JobManager's process.
    flink_jobmanager_memory: MemorySize = "704m"
    # Memory of each TaskManager's process.
    flink_taskmanager_memory: MemorySize = "1600m"
    # Port of Prometheus, where it is asked for.
    prometheus_port: Port = 9090
    # Port of Alertmanager, beside it; not its usual 9093, which is the broker's controller here.
    alertmanager_port: Port = 9094
    # Ports of the Collector's agent for services: OTLP by gRPC and by HTTP.
    collector_grpc_port: Port = 4317
    collector_http_port: Port = 4318
    # Port of the Collector's gateway for agents: OTLP by gRPC with mTLS.
    collector_gateway_port: Port = 14317
    # Ports of both for health checks and for their own metrics, as Prometheus reads them.
    collector_agent_health_port: Port = 13133
    collector_agent_metrics_port: Port = 8888
    collector_gateway_health_port: Port = 13134
    collector_gateway_metrics_port: Port = 8889

    @property
    def kafka_bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.kafka_port}"

    @property
    def postgres_jdbc_url(self) -> str:
        return f"jdbc:postgresql://{LOOPBACK}:{self.postgres_port}/{POSTGRES_DATABASE}?user={POSTGRES_USER}"

    @property
    def postgres_sqlalchemy_url(self) -> str:
        return f"postgresql+psycopg2://{POSTGRES_USER}@{LOOPBACK}:{self.postgres_port}/{POSTGRES_DATABASE}"

    @property
    def s3_url(self) -> str:
        return f"http://{LOOPBACK}:{self.s3_port}"

    @property
    def redis_url(self) -> str:
        return f"redis://{LOOPBACK}:{self.redis_port}"

    @property
    def flink_rest_url(self) -> str:
        return f"http://{LOOPBACK}:{self.flink_rest_port}"

    @property
    def prometheus_url(self) -> str:
        return f"http://{LOOPBACK}:{self.prometheus_port}"

    @classmethod
    def load(cls, flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> "StackSettings":
        """Return settings from flags (None: not given) over the environment.

        Raises WrongUse with all faults in one message, each with the value, the allowed values and where to change it.
        """
        environ = os.environ if environ is None else environ
        names = cls.model_fields
        given: dict[str, Any] = {n: environ[_variable(n)] for n in names if environ.get(_variable(n))}
        given |= {name: value for name, value in flags.items() if value is not None}
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            raise WrongUse(_all_faults(error)) from None
        return settings.model_copy(update={"folder": settings.folder.expanduser().resolve()})

    def with_auto_ports(self) -> "StackSettings":
        """Return the settings with every port on auto, for tests and the demo, which run beside other servers."""
        return self.model_copy(update=dict.fromkeys(_port_names(), AUTO_PORT))

    def resolved(self) -> "StackSettings":
        """Return the settings with a free port in place of each auto."""
        auto = [name for name in _port_names() if getattr(self, name) == AUTO_PORT]
        ports = dict(zip(auto, free_ports(len(auto)), strict=True))
        if "flink_metrics_port" in auto:
            ports["flink_metrics_port"] = _free_range(1 + self.flink_taskmanagers, set(ports.values()))
        return self.model_copy(update={**ports, "folder": self.folder.expanduser().resolve()})


def ways_to_set(name: str) -> str:
    """Return flag and variable of a setting, kafka_port -> `--kafka-port or REASONER_KAFKA_PORT`; or its variable."""
    flag = "--" + name.replace("_", "-")
    return f"{flag} or {_variable(name)}" if name in FLAGS else _variable(name)


def is_port_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port now. Left-over closed connections do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return different loopback ports on which no server listens now, outside of the range for clients.

    A port of that range can become that of a client's connection before the server binds it.
    """
    free = (port for port in SystemRandom().sample(_SERVER_PORTS, len(_SERVER_PORTS)) if is_port_free(port))
    found = list(islice(free, count))
    assert len(found) == count, f"found {len(found)} free ports in {_SERVER_PORTS}, expected {count}"
    return found


def _free_range(count: int, taken: set[int]) -> int:
    """Return the first of `count` consecutive ports that are free and not `taken`."""
    free = (first for first in SystemRandom().sample(_SERVER_PORTS, len(_SERVER_PORTS) - count))
    return next(
        first for first in free if all(port not in taken and is_port_free(port) for port in range(first, first + count))
    )


def _port_names() -> list[str]:
    return [name for name in StackSettings.model_fields if name.endswith("_port")]


def _variable(name: str) -> str:
    return f"REASONER_{name.upper()}"


def _all_faults(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False):
        name = str(fault["loc"][0])
        change = f"change {ways_to_set(name)}" if name in StackSettings.model_fields else "remove it"
        faults.append(f"{name} is {fault['input']!r}: {expected(fault)}; {change}")
    return "wrong stack settings:\n  " + "\n  ".join(faults)
