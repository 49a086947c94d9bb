"""Components of the stack behind a proxy."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from reasoner.stack.collector import collectors
from reasoner.stack.prometheus import alertmanager, prometheus
from reasoner.stack.settings import StackSettings, free_ports


class Healthy(BaseHTTPRequestHandler):
    """A server that answers every GET."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_component_that_answers_is_ready_behind_a_proxy(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (proxy,) = free_ports(1)
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    health = ("collector_agent_health_port", "collector_gateway_health_port", "prometheus_port", "alertmanager_port")
    settings = StackSettings(folder=tmp_path).model_copy(update=dict.fromkeys(health, port))
    components = [*collectors(settings), prometheus(settings), alertmanager(settings)]
    assert {one.name: one.not_ready_because() for one in components} == dict.fromkeys(
        ("collector-gateway", "collector-agent", "prometheus", "alertmanager")
    )
