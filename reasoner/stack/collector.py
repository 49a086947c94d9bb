"""OpenTelemetry Collectors: an agent that receives OTLP and a gateway that writes to Kafka, with mTLS between them.

Both run the files of `deploy/collector` as they are; ports, folders and certificates are variables of the environment.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from reasoner.errors import CommandFailed
from reasoner.stack.component import Component
from reasoner.stack.environment import deploy_folder, program
from reasoner.stack.loopback import answer_of
from reasoner.stack.settings import LOOPBACK, StackSettings


def collectors(settings: StackSettings) -> list[Component]:
    """Return the gateway and the agent that sends to it."""
    return [gateway(settings), agent(settings)]


def agent(settings: StackSettings, variables: Mapping[str, str] | None = None) -> Component:
    """Return the agent: OTLP and the host's metrics to the gateway. variables: replace those of the stack.

    Of files it reads those of `collector/logs`, one folder for each service; JSON_LOGS, TEXT_LOGS, POD_LOGS and
    DOCKER_LOGS name others.
    """
    logs = settings.folder / "collector" / "logs"
    patterns = {"JSON_LOGS": "*.json", "TEXT_LOGS": "*.log", "POD_LOGS": "pods/*.log", "DOCKER_LOGS": "docker/*.log"}
    files = {name: os.environ.get(name, f"[{logs}/*/{pattern}]") for name, pattern in patterns.items()}
    ports = {
        "OTLP_GRPC_PORT": "collector_grpc_port",
        "OTLP_HTTP_PORT": "collector_http_port",
        "HEALTH_PORT": "collector_agent_health_port",
        "METRICS_PORT": "collector_agent_metrics_port",
    }
    to_gateway = f"{LOOPBACK}:{settings.collector_gateway_port}"
    options = ["--feature-gates=stanza.synchronousLogEmitter", "--config=agent.yaml"]
    return _collector(
        settings, "collector-agent", options, ports, {**files, "GATEWAY": to_gateway, **(variables or {})}
    )


def gateway(
    settings: StackSettings,
    name: str = "collector-gateway",
    files: Sequence[str] = ("gateway.yaml",),
    variables: Mapping[str, str] | None = None,
) -> Component:
    """Return a gateway, which writes to Kafka. variables: beside those of the stack."""
    ports = {
        "GATEWAY_PORT": "collector_gateway_port",
        "HEALTH_PORT": "collector_gateway_health_port",
        "METRICS_PORT": "collector_gateway_metrics_port",
    }
    options = [f"--config={file}" for file in files]
    return _collector(
        settings, name, options, ports, {"KAFKA_BROKERS": f"[{settings.kafka_bootstrap}]", **(variables or {})}
    )


def _collector(
    settings: StackSettings, name: str, options: Sequence[str], ports: Mapping[str, str], variables: Mapping[str, str]
) -> Component:
    """Return a Collector. ports: variable of its configuration -> setting of the stack."""
    folder, certificates = settings.folder / "collector", settings.folder / "collector" / "certificates"
    own = name.removeprefix("collector-").partition("-")[0]
    given = {
        "LISTEN_HOST": LOOPBACK,
        "STORAGE": str(folder / name),
        "TLS_CA": str(certificates / "ca.crt"),
        "TLS_CERT": str(certificates / f"{own}.crt"),
        "TLS_KEY": str(certificates / f"{own}.key"),
        **{variable: str(getattr(settings, setting)) for variable, setting in ports.items()},
        **variables,
    }
    first = next(iter(ports.values()))
    return Component(
        name=name,
        folder=folder,
        prepare=partial(_prepare, certificates),
        command=lambda: ["env", "--chdir", str(_files()), str(_program()), *options],
        not_ready_because=partial(_not_healthy_because, int(given["HEALTH_PORT"])),
        environment=lambda: {**os.environ, **given},
        ports={setting: getattr(settings, setting) for setting in ports.values()},
        endpoints={name.replace("-", "_"): f"{LOOPBACK}:{getattr(settings, first)}"},
    )


def _prepare(certificates: Path) -> None:
    _program()
    certificates.parent.mkdir(parents=True, exist_ok=True)
    command = [str(_files() / "certificates.sh"), str(certificates)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"the certificates in {certificates} could not be made; is openssl installed? {done.stderr.strip()}"
        raise CommandFailed(message)


def _files() -> Path:
    return deploy_folder("collector")


def _program() -> Path:
    return program("collector", "otelcol")


def _not_healthy_because(port: int) -> str | None:
    """Return None when the health_check extension says that all pipelines run."""
    try:
        answer_of(f"http://{LOOPBACK}:{port}/", 3.0).close()
    except OSError as error:
        return f"no answer of the health check on port {port} ({error})"
    return None
