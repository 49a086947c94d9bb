"""Prometheus, which scrapes Flink and Collectors of this machine, and Alertmanager, which groups its alerts."""

import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import yaml

from reasoner.errors import CommandFailed, reason_of
from reasoner.folders import checkout, tools
from reasoner.stack.component import Component
from reasoner.stack.settings import LOOPBACK, StackSettings

# Ports of metrics where the settings of the stack have none for them. Each process of Flink takes the first free one.
_FLINK_PORT: Final = 9249
_AGENT_PORT: Final = 8888
_GATEWAY_PORT: Final = 8889


def prometheus(settings: StackSettings) -> list[Component]:
    """Return Prometheus with the configuration and the rules of `deploy`.

    It needs no other component: what does not run is a target that is down.
    """
    folder = settings.folder / "prometheus"
    return [
        Component(
            name="prometheus",
            folder=folder,
            prepare=partial(_prepare, settings, folder),
            command=lambda: [
                *(_program("prometheus"), f"--config.file={folder}/prometheus.yml"),
                *(f"--storage.tsdb.path={folder}/data", "--storage.tsdb.retention.time=7d"),
                *(f"--web.listen-address={LOOPBACK}:{settings.prometheus_port}", "--web.enable-lifecycle"),
                # A Collector sends the metrics that it receives by remote write.
                *("--web.enable-remote-write-receiver", f"--web.local-assets={tools()}/prometheus/web"),
            ],
            not_ready_because=partial(_not_ready_because, settings.prometheus_url),
            ports={"prometheus_port": settings.prometheus_port},
            endpoints={"prometheus": settings.prometheus_url},
        )
    ]


def alertmanager(settings: StackSettings) -> list[Component]:
    """Return Alertmanager with the configuration of `deploy`; Prometheus sends it the alerts."""
    folder, address = settings.folder / "alertmanager", f"{LOOPBACK}:{settings.alertmanager_port}"
    return [
        Component(
            name="alertmanager",
            folder=folder,
            prepare=partial(_prepare_alertmanager, folder),
            command=lambda: [
                *(_program("alertmanager"), f"--config.file={folder}/alertmanager.yml"),
                *(f"--storage.path={folder}/data", f"--web.listen-address={address}"),
                "--cluster.listen-address=",  # no second one, so no port for it
            ],
            not_ready_because=partial(_not_ready_because, f"http://{address}"),
            ports={"alertmanager_port": settings.alertmanager_port},
            endpoints={"alertmanager": f"http://{address}"},
        )
    ]


def write_targets(folder: Path, ports: Mapping[str, Iterable[int]]) -> None:
    """Write the addresses that Prometheus scrapes, by the name of its job. It reads them again when they change."""
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    for name, numbers in ports.items():
        addresses = [f"{LOOPBACK}:{port}" for port in numbers]
        # Renamed into place, because Prometheus may read the file while it is written.
        part = folder / "targets" / f"{name}.part"
        part.write_text(yaml.safe_dump([{"targets": addresses}]))
        part.rename(part.with_suffix(".yaml"))


def _prepare(settings: StackSettings, folder: Path) -> None:
    deploy = _deploy()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(deploy / "prometheus" / "prometheus.yml", folder)
    shutil.rmtree(folder / "rules", ignore_errors=True)
    shutil.copytree(deploy / "grafana" / "rules", folder / "rules")
    write_targets(folder, _ports(settings))


def _ports(settings: StackSettings) -> dict[str, Iterable[int]]:
    flink = int(getattr(settings, "flink_metrics_port", _FLINK_PORT))
    agent = int(getattr(settings, "collector_agent_metrics_port", _AGENT_PORT))
    gateway = int(getattr(settings, "collector_gateway_metrics_port", _GATEWAY_PORT))
    return {
        "flink": range(flink, flink + 1 + settings.flink_taskmanagers),
        "collector": [agent, gateway],
        "prometheus": [settings.prometheus_port],
        "alertmanager": [settings.alertmanager_port],
    }


def _prepare_alertmanager(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_deploy() / "prometheus" / "alertmanager.yml", folder)


def _deploy() -> Path:
    root = checkout()
    if root is None:
        message = "Prometheus of the stack takes its rules from `deploy`, which is in a checkout only: run it there"
        raise CommandFailed(message)
    return root / "deploy"


def _program(name: str) -> str:
    path = tools() / name / name
    if not path.exists():
        message = f"{path} is missing: run `make {name}`"
        raise CommandFailed(message)
    return str(path)


def _not_ready_because(url: str) -> str | None:
    try:
        build_opener(ProxyHandler({})).open(f"{url}/-/ready", timeout=2.0).close()
    except OSError as error:
        inner = error.reason if isinstance(error, URLError) else error
        return f"{url}/-/ready: {reason_of(inner) if isinstance(inner, OSError) else inner}"
    return None
