"""A standalone Flink cluster: one JobManager and its TaskManagers, each a separate process, on loopback."""

import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed
from reasoner.stack import s3
from reasoner.stack.component import Component
from reasoner.stack.environment import flink_env, flink_home
from reasoner.stack.settings import LOOPBACK, StackSettings

# Seconds. 6 s on an idle machine; 57 s were measured on two cores with nine busy processes.
_READY_DEADLINE_S = 180.0
_DIRECT_MB_OF_A_SLOT = 256
_NETWORK_MB_OF_A_SLOT = 32


# The JVM of a TaskManager moves bytes between Kafka and Python: throughput is important, pauses are not. The optimising
# compiler took 6 of 20 CPU seconds for code that the quick compiler makes nearly as fast (docs/sizing.md). Messages are
# short-lived: 50 % of the heap is for young objects, or messages fill the old generation, which is then collected each
# second.
_JAVA_OPTIONS: Final = "-XX:+UseParallelGC -XX:NewRatio=1 -XX:TieredStopAtLevel=1"
_JOBMANAGER_JAVA_OPTIONS: Final = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"  # metadata only


def jobmanager(settings: StackSettings) -> Component:
    """Return the JobManager: REST, dashboard, job coordination. It is ready before its TaskManagers."""
    folder = settings.folder / "flink"
    return Component(
        name="flink-jobmanager",
        folder=folder,
        prepare=partial(_write_conf, settings, folder),
        command=lambda: [str(flink_home() / "bin" / "jobmanager.sh"), "start-foreground"],
        not_ready_because=partial(_no_answer_because, settings.flink_rest_url),
        ready_deadline_s=_READY_DEADLINE_S,
        environment=partial(_environment, folder),
        ports={"flink_rest_port": settings.flink_rest_port, "flink_rpc_port": settings.flink_rpc_port},
        endpoints={"flink_rest": settings.flink_rest_url},
    )


def taskmanager(settings: StackSettings, number: int) -> Component:
    """Return the TaskManager of this number (from 1). It is ready when the JobManager lists it with its slots.

    The kernel chooses its ports; it uses the configuration of the JobManager.
    """
    name, folder = taskmanager_name(number), settings.folder / "flink"
    id_file = folder / f"{name}.id"

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Another id at each start: REST lists a killed TaskManager until its heartbeat is missed, and it must not be
        # mistaken for the new one. The id begins with the component's name, so that the dashboard shows the process.
        id_file.write_text(f"{name}-{secrets.token_hex(3)}")

    def command() -> list[str]:
        option = f"taskmanager.resource-id={id_file.read_text()}"
        return [str(flink_home() / "bin" / "taskmanager.sh"), "start-foreground", "-D", option]

    def not_ready_because() -> str | None:
        try:
            answer = _rest(settings.flink_rest_url).get("/taskmanagers")
        except CommandFailed as failure:
            return str(failure)
        known = {taskmanager["id"]: taskmanager["slotsNumber"] for taskmanager in answer["taskmanagers"]}
        if id_file.exists() and known.get(id_file.read_text()) == settings.flink_slots:
            return None
        listed = f"{settings.flink_rest_url} lists {len(known)} TaskManagers"
        return f"{listed}, {name} with {settings.flink_slots} slots not yet"

    return Component(
        name=name,
        folder=folder,
        prepare=prepare,
        command=command,
        not_ready_because=not_ready_because,
        ready_deadline_s=_READY_DEADLINE_S,
        environment=partial(_environment, folder),
    )


def taskmanager_name(number: int) -> str:
    """Return the name of the component; the ids in Flink's REST API begin with it."""
    return f"flink-taskmanager-{number}"


def _no_answer_because(url: str) -> str | None:
    try:
        _rest(url).get("/overview")
    except CommandFailed as failure:
        return str(failure)
    return None


def _rest(url: str) -> FlinkRest:
    # Called repeatedly while the cluster starts: a request that hangs must not delay the next one.
    return FlinkRest(url, timeout_s=3.0)


def _write_conf(settings: StackSettings, folder: Path) -> None:
    """Write the configuration folder of this cluster: the prepared one with the ports, sizes and folders in it."""
    conf = folder / "conf"
    for path in (conf, folder / "log", folder / "tmp", folder / "pid"):
        path.mkdir(parents=True, exist_ok=True)
    prepared = flink_home() / "conf"
    for path in prepared.glob("*.properties"):
        (conf / path.name).write_bytes(path.read_bytes())
    values = _flat(yaml.safe_load((prepared / "config.yaml").read_text()))
    (conf / "config.yaml").write_text(yaml.safe_dump({**values, **_own_values(settings, folder)}, width=10_000))


def _own_values(settings: StackSettings, folder: Path) -> dict[str, Any]:
    python = flink_env()["PATH"].partition(":")[0] + "/python"
    return {
        "jobmanager.rpc.address": LOOPBACK,
        "jobmanager.rpc.port": settings.flink_rpc_port,
        "jobmanager.bind-host": LOOPBACK,
        "jobmanager.memory.process.size": settings.flink_jobmanager_memory,
        "rest.address": LOOPBACK,
        "rest.bind-address": LOOPBACK,
        "rest.port": settings.flink_rest_port,
        "taskmanager.bind-host": LOOPBACK,
        "taskmanager.host": LOOPBACK,
        "taskmanager.numberOfTaskSlots": settings.flink_slots,
        "taskmanager.memory.process.size": settings.flink_taskmanager_memory,
        # Beam's channel to the Python workers keeps outgoing data in direct memory, up to a bundle of messages for
        # each slot. With Flink's default of 0 the TaskManager ran out of it after a restart, at 160 kB a message.
        "taskmanager.memory.task.off-heap.size": f"{_DIRECT_MB_OF_A_SLOT * settings.flink_slots}m",
        # State is small and messages are large: memory that RocksDB does not need is heap.
        "taskmanager.memory.managed.fraction": 0.15,
        # Buffers between steps are allocated at once, a tenth of the memory by default. The steps of the job need about
        # 500 buffers of 32 kB at two subtasks.
        "taskmanager.memory.network.min": f"{_NETWORK_MB_OF_A_SLOT * settings.flink_slots}m",
        "taskmanager.memory.network.max": f"{_NETWORK_MB_OF_A_SLOT * settings.flink_slots}m",
        "io.tmp.dirs": str(folder / "tmp"),
        # Flink's default keeps checkpoints in the heap of the JobManager, where they end with it.
        "execution.checkpointing.dir": f"file://{folder}/checkpoints",
        "execution.checkpointing.savepoint-dir": f"file://{folder}/savepoints",
        **s3.flink_options(settings),
        "env.pid.dir": str(folder / "pid"),
        # A crash of a JVM writes its report to the logs, not to the working directory of the command.
        "env.java.opts.jobmanager": _JOBMANAGER_JAVA_OPTIONS,
        # Where the heap is full, a thread of Beam's channel ends alone, and the job would hang without an error.
        "env.java.opts.taskmanager": (
            f"{_JAVA_OPTIONS} -XX:+ExitOnOutOfMemoryError -XX:ErrorFile={folder}/log/hs_err_pid%p.log"
        ),
        # For jobs that are submitted by REST or the dashboard, where no client sets the interpreter.
        "python.client.executable": python,
        "python.executable": python,
        # A person or a test waits until a dead TaskManager is noticed: two refused heartbeats, about 4 s. One that only
        # pauses is not lost: on a busy machine the start of two jobs stops it for more than 10 s.
        "heartbeat.interval": "2 s",
        "heartbeat.rpc-failure-threshold": "2",
        "heartbeat.timeout": "50 s",
        "pekko.ask.timeout": "60 s",  # a task is deployed within this; 10 s is too short while the machine is busy
        # Counters in REST and dashboard are at most 2 s old, not 10 s.
        "metrics.fetcher.update-interval": "2 s",
    }


def _environment(folder: Path) -> dict[str, str]:
    return flink_env(log_folder=folder / "log", conf_folder=folder / "conf") | s3.flink_environment(folder.parent)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested YAML as Flink's dotted keys, so that a key of ours replaces one of the file in either notation."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
