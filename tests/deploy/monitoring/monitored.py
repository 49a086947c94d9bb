"""A stack on free ports in which Prometheus scrapes Flink, its job and a Collector, to which Flink sends too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from reasoner.folders import tools
from reasoner.stack import StackSettings
from reasoner.stack.component import Component
from reasoner.stack.running import components_of
from reasoner.stack.settings import free_ports
from reasoner.stack.supervisor import Supervisor
from tests.deploy.monitoring.prometheus_api import PrometheusApi
from tests.support.components import skip_unless_set_up, skip_without_postgres
from tests.support.parts import OTELCOL, PROMETHEUS, skip_unless_made

# Alerts that wait for minutes are to be seen within a test: values each two seconds, not each 15.
SCRAPE = "2s"


@dataclass(frozen=True)
class MonitoredStack:
    """Kafka, PostgreSQL, Flink, Prometheus and Alertmanager."""

    settings: StackSettings
    supervisor: Supervisor
    prometheus: PrometheusApi
    alertmanager_url: str
    otlp_port: int  # of OTLP/gRPC, to which Flink sends its metrics


@contextmanager
def monitored_stack(folder: Path) -> Iterator[MonitoredStack]:
    """Start the stack; end it with the `with` body."""
    skip_unless_set_up()
    skip_without_postgres()
    skip_unless_made(OTELCOL, PROMETHEUS, tools() / "alertmanager" / "alertmanager")
    settings = StackSettings(folder=folder, flink_taskmanager_memory="2000m").with_auto_ports().resolved()
    components = components_of(settings, ["prometheus", "alertmanager", "kafka", "postgres", "flink"])
    supervisor = Supervisor(settings.folder, die_with_parent=True)
    (otlp_port,) = free_ports(1)
    changed: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
        "prometheus": ("prometheus.yml", _scraping_often),
        "flink-jobmanager": ("conf/config.yaml", partial(_sending, f"http://127.0.0.1:{otlp_port}")),
    }
    supervisor.up([_changed(one, *changed[one.name]) if one.name in changed else one for one in components])
    try:
        alerts = f"http://127.0.0.1:{settings.alertmanager_port}"
        yield MonitoredStack(settings, supervisor, PrometheusApi(settings.prometheus_url), alerts, otlp_port)
    finally:
        supervisor.down()


def _scraping_often(values: dict[str, Any]) -> None:
    values["global"] = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}


def _sending(endpoint: str, values: dict[str, Any]) -> None:
    """Turn on Flink's second reporter, as flink-conf/config.yaml says."""
    values |= {"metrics.reporters": "prom,otel", "metrics.reporter.otel.exporter.endpoint": endpoint}


def _changed(component: Component, file: str, change: Callable[[dict[str, Any]], None]) -> Component:
    def prepare() -> None:
        component.prepare()
        path = component.folder / file
        values = yaml.safe_load(path.read_text())
        change(values)
        path.write_text(yaml.safe_dump(values, width=10_000))

    return replace(component, prepare=prepare)
