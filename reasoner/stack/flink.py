"""A standalone Flink cluster: one JobManager and its TaskManagers, each a separate process, on loopback."""

import secrets
from functools import partial
from pathlib import Path
from typing import Any, Final

from reasoner.clients.flink_jars import ENTRY_CLASS
from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed
from reasoner.stack import flink_conf, s3
from reasoner.stack.component import Component
from reasoner.stack.environment import flink_env, flink_home
from reasoner.stack.settings import StackSettings

# Seconds. 6 s on an idle machine; 57 s were measured on two cores with nine busy processes.
_READY_DEADLINE_S = 180.0
# Reasons of both in flink-conf/config.yaml.
_DIRECT_MB_OF_A_SLOT: Final = 256
_NETWORK_MB_OF_A_SLOT: Final = 32
_METRICS_PORT: Final = "metrics.reporter.prom.port"
# A long path, because Flink moves the log of a RocksDB to its own logs, under a name made of the whole path, unless it
# has more than 251 characters. A restore with another parallelism adds 41: with a path in between the name is too long
# for a file, and the job fails again and again.
_ROCKSDB: Final = "rocksdb".ljust(100, "-")


def jobmanager(settings: StackSettings) -> Component:
    """Return the JobManager: REST, dashboard, job coordination. It is ready before its TaskManagers."""
    folder = settings.folder / "flink"
    return Component(
        name="flink-jobmanager",
        folder=folder,
        prepare=partial(_write_conf, settings, folder),
        command=partial(_jobmanager_command, settings),
        not_ready_because=partial(_no_answer_because, settings.flink_rest_url),
        ready_deadline_s=_READY_DEADLINE_S,
        environment=partial(_environment, settings),
        ports={
            "flink_rest_port": settings.flink_rest_port,
            "flink_rpc_port": settings.flink_rpc_port,
            **_metrics_port(settings),
        },
        uses=_uses(settings),
        endpoints={"flink_rest": settings.flink_rest_url},
    )


def taskmanager(settings: StackSettings, number: int) -> Component:
    """Return the TaskManager of this number (from 1). It is ready when the JobManager lists it with its slots.

    The kernel chooses its ports but that of metrics; it uses the configuration of the JobManager.
    """
    name, folder = taskmanager_name(number), settings.folder / "flink"
    id_file = folder / f"{name}.id"

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Another id at each start: REST lists a killed TaskManager until its heartbeat is missed, and it must not be
        # mistaken for the new one. The id begins with the component's name, so that the dashboard shows the process.
        id_file.write_text(f"{name}-{secrets.token_hex(3)}")

    def current_id() -> str:
        return id_file.read_text() if id_file.exists() else ""

    def command() -> list[str]:
        own = (
            f"taskmanager.resource-id={current_id()}",
            f"{_METRICS_PORT}={settings.flink_metrics_port + number}",
        )
        options = [word for option in own for word in ("-D", option)]
        return [str(flink_home() / "bin" / "taskmanager.sh"), "start-foreground", *options]

    def not_ready_because() -> str | None:
        try:
            answer = _rest(settings.flink_rest_url).get("/taskmanagers")
        except CommandFailed as failure:
            return str(failure)
        known = {taskmanager["id"]: taskmanager["slotsNumber"] for taskmanager in answer["taskmanagers"]}
        if known.get(current_id()) == settings.flink_slots:
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
        environment=partial(_environment, settings),
        counted_ports=_metrics_port(settings, number),
        uses=_uses(settings),
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
    """Write the configuration folder of this cluster: flink-conf for one machine, with its ports, sizes and folders."""
    for path in (folder / "log", folder / "tmp", folder / "pid"):
        path.mkdir(parents=True, exist_ok=True)
    kind: flink_conf.Use = "application" if settings.flink_application else "session"
    flink_conf.write(folder / "conf", (kind, "local"), _own_values(settings, folder))


def _jobmanager_command(settings: StackSettings) -> list[str]:
    """Return the command of a session cluster, or of an application cluster, which runs its job at once."""
    scripts = flink_home() / "bin"
    if settings.flink_application is None:
        return [str(scripts / "jobmanager.sh"), "start-foreground"]
    savepoint = ["--fromSavepoint", settings.flink_savepoint] if settings.flink_savepoint else []
    program = ["-pym", "jobs.insights", "--config", str(settings.flink_application.resolve())]
    return [
        str(scripts / "standalone-job.sh"),
        "start-foreground",
        "--job-classname",
        ENTRY_CLASS,
        *savepoint,
        *program,
    ]


def _own_values(settings: StackSettings, folder: Path) -> dict[str, Any]:
    python = flink_env()["PATH"].partition(":")[0] + "/python"
    network = f"{_NETWORK_MB_OF_A_SLOT * settings.flink_slots}m"
    return {
        "jobmanager.rpc.port": settings.flink_rpc_port,
        "jobmanager.memory.process.size": settings.flink_jobmanager_memory,
        "rest.port": settings.flink_rest_port,
        "taskmanager.numberOfTaskSlots": settings.flink_slots,
        "taskmanager.memory.process.size": settings.flink_taskmanager_memory,
        "taskmanager.memory.task.off-heap.size": f"{_DIRECT_MB_OF_A_SLOT * settings.flink_slots}m",
        "taskmanager.memory.network.min": network,
        "taskmanager.memory.network.max": network,
        **({"metrics.reporters": "prom"} if settings.flink_metrics else {}),
        _METRICS_PORT: settings.flink_metrics_port,
        "io.tmp.dirs": str(folder / "tmp"),
        "state.backend.rocksdb.localdir": str(folder / _ROCKSDB),
        # Flink's default keeps checkpoints in the heap of the JobManager, where they end with it.
        "execution.checkpointing.dir": f"file://{folder}/checkpoints",
        "execution.checkpointing.savepoint-dir": f"file://{folder}/savepoints",
        **s3.flink_options(settings),
        "env.pid.dir": str(folder / "pid"),
        # For jobs that are submitted by REST or the dashboard, where no client sets the interpreter.
        "python.client.executable": python,
        "python.executable": python,
    }


def _environment(settings: StackSettings) -> dict[str, str]:
    folder = settings.folder / "flink"
    return flink_env(log_folder=folder / "log", conf_folder=folder / "conf") | s3.flink_environment(settings)


def _metrics_port(settings: StackSettings, number: int = 0) -> dict[str, int]:
    """Return the port of a process for its metrics, that of the JobManager for 0; none without metrics."""
    return {"flink_metrics_port": settings.flink_metrics_port + number} if settings.flink_metrics else {}


def _uses(settings: StackSettings) -> tuple[str, ...]:
    return (*(["s3"] if settings.flink_s3 else []), *(["prometheus"] if settings.flink_metrics else []))
