"""A stack in which Prometheus scrapes Flink, the job that runs on it, and a Collector, each on free ports."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from reasoner.folders import tools
from reasoner.stack import StackSettings
from reasoner.stack.component import Component
from reasoner.stack.running import components_of
from reasoner.stack.supervisor import Supervisor
from tests.deploy.monitoring.prometheus_api import PrometheusApi
from tests.support.components import skip_unless_set_up, skip_without_postgres
from tests.support.parts import skip_unless_made

# Alerts that wait for minutes are to be seen within a test: values each two seconds, not each 15.
SCRAPE = "2s"


@dataclass(frozen=True)
class MonitoredStack:
    """Kafka, PostgreSQL, Flink, Prometheus and Alertmanager."""

    settings: StackSettings
    supervisor: Supervisor
    prometheus: PrometheusApi
    alertmanager_url: str


@contextmanager
def monitored_stack(folder: Path) -> Iterator[MonitoredStack]:
    """Start the stack; end it with the `with` body."""
    skip_unless_set_up()
    skip_without_postgres()
    skip_unless_made(*(tools() / program / program for program in ("prometheus", "alertmanager")))
    settings = StackSettings(folder=folder, flink_taskmanager_memory="2000m").with_auto_ports().resolved()
    components = components_of(settings, ["prometheus", "alertmanager", "kafka", "postgres", "flink"])
    supervisor = Supervisor(settings.folder, die_with_parent=True)
    supervisor.up([_scraping_often(one) if one.name == "prometheus" else one for one in components])
    try:
        alerts = f"http://127.0.0.1:{settings.alertmanager_port}"
        yield MonitoredStack(settings, supervisor, PrometheusApi(settings.prometheus_url), alerts)
    finally:
        supervisor.down()


def _scraping_often(component: Component) -> Component:
    def prepare() -> None:
        component.prepare()
        path = component.folder / "prometheus.yml"
        values = yaml.safe_load(path.read_text())
        values["global"] = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
        path.write_text(yaml.safe_dump(values))

    return replace(component, prepare=prepare)
