"""Prometheus, which scrapes Flink and Collectors of this machine, and Alertmanager, which groups its alerts."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.error import URLError

import yaml

from reasoner.errors import reason_of
from reasoner.folders import tools
from reasoner.stack.component import Component
from reasoner.stack.environment import deploy_folder, program
from reasoner.stack.loopback import answer_of
from reasoner.stack.settings import LOOPBACK, StackSettings


def prometheus(settings: StackSettings) -> Component:
    """Return Prometheus with the configuration and the rules of `deploy`.

    It needs no other component: what does not run is a target that is down.
    """
    folder = settings.folder / "prometheus"
    return Component(
        name="prometheus",
        folder=folder,
        prepare=partial(_prepare, settings, folder),
        command=lambda: [
            *(str(program("prometheus", "prometheus")), f"--config.file={folder}/prometheus.yml"),
            *(f"--storage.tsdb.path={folder}/data", "--storage.tsdb.retention.time=7d"),
            *(f"--web.listen-address={LOOPBACK}:{settings.prometheus_port}", "--web.enable-lifecycle"),
            # A Collector sends the metrics that it receives by remote write.
            *("--web.enable-remote-write-receiver", f"--web.local-assets={tools()}/prometheus/web"),
        ],
        not_ready_because=partial(_not_ready_because, settings.prometheus_url),
        ports={"prometheus_port": settings.prometheus_port},
        endpoints={"prometheus": settings.prometheus_url},
    )


def alertmanager(settings: StackSettings) -> Component:
    """Return Alertmanager with the configuration of `deploy`; Prometheus sends it the alerts."""
    folder, address = settings.folder / "alertmanager", f"{LOOPBACK}:{settings.alertmanager_port}"
    return Component(
        name="alertmanager",
        folder=folder,
        prepare=partial(_prepare_alertmanager, folder),
        command=lambda: [
            *(str(program("alertmanager", "alertmanager")), f"--config.file={folder}/alertmanager.yml"),
            *(f"--storage.path={folder}/data", f"--web.listen-address={address}"),
            "--cluster.listen-address=",  # no second one, so no port for it
        ],
        not_ready_because=partial(_not_ready_because, f"http://{address}"),
        ports={"alertmanager_port": settings.alertmanager_port},
        endpoints={"alertmanager": f"http://{address}"},
    )


def _prepare(settings: StackSettings, folder: Path) -> None:
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    shutil.copy(deploy_folder("prometheus") / "prometheus.yml", folder)
    shutil.rmtree(folder / "rules", ignore_errors=True)
    shutil.copytree(deploy_folder("grafana") / "rules", folder / "rules")
    for job, ports in _ports(settings).items():
        targets = [f"{LOOPBACK}:{port}" for port in ports]
        (folder / "targets" / f"{job}.yaml").write_text(yaml.safe_dump([{"targets": targets}]))


def _ports(settings: StackSettings) -> dict[str, Sequence[int]]:
    """Return the ports that Prometheus asks, by the name of its job, and that of Alertmanager."""
    flink = settings.flink_metrics_port
    return {
        "flink": range(flink, flink + 1 + settings.flink_taskmanagers),
        "collector": [settings.collector_agent_metrics_port, settings.collector_gateway_metrics_port],
        "prometheus": [settings.prometheus_port],
        "alertmanager": [settings.alertmanager_port],
    }


def _prepare_alertmanager(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(deploy_folder("prometheus") / "alertmanager.yml", folder)


def _not_ready_because(url: str) -> str | None:
    try:
        answer_of(f"{url}/-/ready", 2.0).close()
    except OSError as error:
        inner = error.reason if isinstance(error, URLError) else error
        return f"{url}/-/ready: {reason_of(inner) if isinstance(inner, OSError) else inner}"
    return None
