"""A stack in which Prometheus scrapes Flink, the job that runs on it, and a Collector, each on free ports."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.folders import tools
from reasoner.stack import StackSettings
from reasoner.stack.component import Component
from reasoner.stack.prometheus import write_targets
from reasoner.stack.running import components_of
from reasoner.stack.settings import free_ports
from reasoner.stack.supervisor import Supervisor
from tests.deploy.monitoring.prometheus_api import PrometheusApi
from tests.support.components import skip_unless_set_up, skip_without_postgres

FACTORY = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
# Alerts that wait for minutes are to be seen within a test: values each two seconds, not each 15.
SCRAPE = "2s"
_PROCESSES_OF_FLINK = 2


@dataclass(frozen=True)
class MonitoredStack:
    """Kafka, PostgreSQL, Flink, Prometheus and Alertmanager."""

    settings: StackSettings
    supervisor: Supervisor
    prometheus: PrometheusApi
    alertmanager_url: str
    # Port on which a Collector that the test starts shows its metrics.
    collector_metrics_port: int


@contextmanager
def monitored_stack(folder: Path) -> Iterator[MonitoredStack]:
    """Start the stack; end it with the `with` body."""
    skip_unless_set_up()
    skip_without_postgres()
    for program in ("prometheus", "alertmanager"):
        if not (tools() / program / program).exists():
            pytest.skip(f"{program} is not there: run `make {program}`")
    settings = StackSettings(folder=folder, flink_taskmanager_memory="2000m").with_auto_ports().resolved()
    *flink_ports, collector_port = free_ports(_PROCESSES_OF_FLINK + 1)
    changes = {
        "flink-jobmanager": partial(_with_reporter, flink_ports),
        "prometheus": partial(_with_targets, {"flink": flink_ports, "collector": [collector_port]}),
    }
    components = components_of(settings, ["prometheus", "alertmanager", "kafka", "postgres", "flink"])
    supervisor = Supervisor(settings.folder, die_with_parent=True)
    supervisor.up([_prepared_with(component, changes.get(component.name)) for component in components])
    try:
        alerts = f"http://127.0.0.1:{settings.alertmanager_port}"
        yield MonitoredStack(settings, supervisor, PrometheusApi(settings.prometheus_url), alerts, collector_port)
    finally:
        supervisor.down()


def _prepared_with(component: Component, change: Any) -> Component:
    """Return the component with a change of its files after it has written them."""
    if change is None:
        return component

    def prepare() -> None:
        component.prepare()
        change(component.folder)

    return replace(component, prepare=prepare)


def _with_reporter(ports: list[int], folder: Path) -> None:
    """Let Flink show its metrics on these ports; another stack of the machine may have the usual ones."""
    path = folder / "conf" / "config.yaml"
    reporter = "metrics.reporter.prom"
    own = {f"{reporter}.factory.class": FACTORY, f"{reporter}.port": ",".join(map(str, ports))}
    own["metrics.reporters"] = "prom"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | own, width=10_000))


def _with_targets(ports: dict[str, list[int]], folder: Path) -> None:
    write_targets(folder, ports)
    path = folder / "prometheus.yml"
    values = yaml.safe_load(path.read_text())
    values["global"] = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
    path.write_text(yaml.safe_dump(values))
