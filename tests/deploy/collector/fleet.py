"""Two gateways behind HAProxy, an agent, and a Collector with files in the place of Tempo."""

import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from reasoner.stack.collector import agent, gateway
from reasoner.stack.component import Component
from reasoner.stack.loopback import answer_of
from reasoner.stack.running import RunningStack
from reasoner.stack.settings import StackSettings, free_ports, is_port_free
from tests.support.crash import kill_leader
from tests.support.parts import HAPROXY, OTELCOL
from tests.tidy.rules import ROOT

FOLDER: Final = ROOT / "deploy" / "collector"
SLOW_MS: Final = 100
SAMPLED_PERCENT: Final = 5
WITH_OBSERVABILITY: Final = ("gateway.yaml", "gateway-observability.yaml")
GATEWAYS: Final = ("collector-gateway-1", "collector-gateway-2")
# Settings of the stack that two gateways must not share.
_OF_A_GATEWAY: Final = tuple(f"collector_gateway_{name}port" for name in ("", "health_", "metrics_"))


@dataclass
class Fleet:
    """The Collectors of a site, on a running stack."""

    stack: RunningStack
    topics: Mapping[str, str]  # variables of the gateways
    components: dict[str, Component] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings, folder = self.stack.settings, self.stack.settings.folder / "collector"
        second = dict(zip(_OF_A_GATEWAY, free_ports(len(_OF_A_GATEWAY)), strict=True))
        both = (settings, settings.model_copy(update=second))
        sampling = free_ports(len(both))
        *tempo, balancer = free_ports(3)
        self.recording = folder / "tempo"
        shared = {
            **self.topics,
            "TEMPO": f"127.0.0.1:{tempo[0]}",
            # Nobody listens there: what is absent must not disturb Kafka.
            "LOKI": "http://127.0.0.1:1/otlp",
            "MIMIR": "http://127.0.0.1:1/api/v1/push",
            "SAMPLING_GATEWAYS": str([f"localhost:{port}" for port in sampling]).replace("'", ""),
            "SAMPLING_WAIT": "10s",
            "SAMPLING_SLOW_MS": str(SLOW_MS),
            "SAMPLING_PERCENT": str(SAMPLED_PERCENT),
        }
        found = [
            gateway(own, name, WITH_OBSERVABILITY, {**shared, "SAMPLING_PORT": str(port)})
            for own, name, port in zip(both, GATEWAYS, sampling, strict=True)
        ]
        found += [
            recorder("collector-tempo", self.recording, tempo),
            _balancer(folder, balancer, both),
            agent(settings, {"GATEWAY": f"localhost:{balancer}"}),
        ]
        self.components = {component.name: component for component in found}
        self._metrics_ports = {
            name: own.collector_gateway_metrics_port for name, own in zip(GATEWAYS, both, strict=True)
        }
        self._metrics_ports["collector-agent"] = settings.collector_agent_metrics_port

    def start(self, *names: str) -> None:
        """Start the named Collectors, or all, and wait until they are ready."""
        self.stack.supervisor.up([self.components[name] for name in names or self.components])

    def kill(self, *names: str) -> None:
        """End processes as a crash does."""
        for name in names:
            record = self.stack.supervisor.record(name)
            assert record is not None
            assert kill_leader(record), f"{name} did not run"

    def used_gateway(self) -> str:
        """Return the gateway to which the agent is connected: it has received more."""
        return max(GATEWAYS, key=lambda name: self._metric(name, "otelcol_receiver_accepted_spans", 'receiver="otlp"'))

    def waiting_bytes(self, name: str) -> float:
        """Return what lies in the queues to gateway or Kafka of a Collector, on its disk."""
        exporter = "otlp_grpc" if name == "collector-agent" else "kafka"
        return self._metric(name, "otelcol_exporter_queue_size", f'exporter="{exporter}"')

    def _metric(self, name: str, metric: str, label: str) -> float:
        """Return the sum of a Collector's own metric over the series with a label."""
        with answer_of(f"http://127.0.0.1:{self._metrics_ports[name]}/metrics", 10.0) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric) and label in line)


def recorder(name: str, recording: Path, ports: Sequence[int]) -> Component:
    """Return a Collector that writes what it receives, by gRPC and by HTTP, into the folder `recording`."""
    grpc, http = ports
    given = {"OTLP_GRPC_PORT": str(grpc), "OTLP_HTTP_PORT": str(http), "RECORDING": str(recording)}
    return Component(
        name=name,
        folder=recording.parent,
        prepare=partial(recording.parent.mkdir, parents=True, exist_ok=True),
        command=lambda: [str(OTELCOL), f"--config={FOLDER / 'recorder.yaml'}"],
        environment=lambda: {**os.environ, **given},
        not_ready_because=partial(_not_bound, grpc),
    )


def _balancer(folder: Path, port: int, gateways: tuple[StackSettings, ...]) -> Component:
    given: Mapping[str, str] = {
        "BALANCER_PORT": str(port),
        **{f"GATEWAY_{n}": f"127.0.0.1:{own.collector_gateway_port}" for n, own in enumerate(gateways, 1)},
        **{f"HEALTH_{n}": str(own.collector_gateway_health_port) for n, own in enumerate(gateways, 1)},
    }
    return Component(
        name="collector-balancer",
        folder=folder,
        command=lambda: [str(HAPROXY), "-db", "-f", str(FOLDER / "haproxy.cfg")],
        environment=lambda: {**os.environ, **given},
        not_ready_because=partial(_not_bound, port),
    )


def _not_bound(port: int) -> str | None:
    return f"nobody listens on {port}" if is_port_free(port) else None


def refusal(port: int, certificates: Path, *, name: str = "") -> str:
    """Return why a gateway ends a TLS connection with the certificate of this name, or with none; "" if it serves.

    In TLS 1.3 the refusal comes after the client's part of the handshake, in the place of the first bytes of HTTP/2.
    """
    context = ssl.create_default_context(cafile=certificates / "ca.crt")
    context.set_alpn_protocols(["h2"])
    if name:
        context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                assert secured.recv(1), "the gateway has ended the connection without a reason"
        except ssl.SSLError as error:
            return str(error)
    return ""
