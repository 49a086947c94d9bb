"""Broker and database of the tests in containers, with the settings of the stack: by Docker, or podman's socket.

REASONER_TEST_CONTAINERS is `yes` (an engine must answer, images are pulled), `no`, or `auto`, the default: where an
engine answers and has the images already, so that no test needs a network. DOCKER_HOST names another engine's socket.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import docker
import sqlalchemy
from docker.errors import DockerException
from requests import RequestException
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from reasoner.stack import StackSettings
from reasoner.stack.kafka import CLUSTER_ID, kafka, properties
from reasoner.stack.settings import LOOPBACK, POSTGRES_DATABASE, POSTGRES_USER
from reasoner.waiting import wait_until

KAFKA_IMAGE: Final = os.environ.get("REASONER_TEST_KAFKA_IMAGE", "docker.io/apache/kafka:4.1.0")
POSTGRES_IMAGE: Final = os.environ.get("REASONER_TEST_POSTGRES_IMAGE", "docker.io/library/postgres:17.11-bookworm")
_WANTED: Final = os.environ.get("REASONER_TEST_CONTAINERS", "auto")
_API_VERSION: Final = "1.40"  # that podman 4 and Docker 19 know
_READY_DEADLINE_S: Final = 120.0
_POSTGRES_PORT: Final = 5432

# Its image would have to be pulled, and the fixtures end their containers themselves.
testcontainers_config.ryuk_disabled = True


@cache
def are_used() -> bool:
    """Return whether the fixtures start containers. With `yes` an engine that does not answer is an error."""
    if _WANTED == "no" or (_WANTED == "auto" and not _is_socket_there()):
        return False
    # With a version the client asks for nothing before its first request, so that it can be closed.
    with closing(docker.from_env(version=_API_VERSION, timeout=10)) as engine:
        try:
            engine.ping()
            if _WANTED == "auto":
                for image in (KAFKA_IMAGE, POSTGRES_IMAGE):
                    engine.images.get(image)
        except (DockerException, RequestException):
            if _WANTED == "yes":
                raise
            return False
    return True


def _is_socket_there() -> bool:
    """Return False where Docker's client would leave a socket open because there is nothing to connect to."""
    scheme, _, path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")
    return scheme != "unix" or Path(path).exists()


@contextmanager
def kafka_container(settings: StackSettings) -> Iterator[str]:
    """Run a broker with the properties of the stack's one; yield its bootstrap address."""
    port, controller = settings.kafka_port, settings.kafka_controller_port
    text = properties(settings, Path("/var/lib/kafka/data"))
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]
    environment = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in pairs}
    # Clients come from outside of the container.
    environment["KAFKA_LISTENERS"] = f"PLAINTEXT://:{port},CONTROLLER://{LOOPBACK}:{controller}"
    container = DockerContainer(KAFKA_IMAGE)
    _publish(container, port, port)
    for name, value in {**environment, "CLUSTER_ID": CLUSTER_ID}.items():
        container.with_env(name, value)
    with _running(container, kafka(settings).not_ready_because):
        yield settings.kafka_bootstrap


@contextmanager
def postgres_container(settings: StackSettings) -> Iterator[None]:
    """Run PostgreSQL with the database and the user of the stack's one."""
    container = DockerContainer(POSTGRES_IMAGE)
    _publish(container, _POSTGRES_PORT, settings.postgres_port)
    variables = {"USER": POSTGRES_USER, "DB": POSTGRES_DATABASE, "HOST_AUTH_METHOD": "trust"}
    for name, value in variables.items():
        container.with_env(f"POSTGRES_{name}", value)
    with _running(container, lambda: _no_answer_because(settings.postgres_sqlalchemy_url)):
        yield


@contextmanager
def _running(container: DockerContainer, not_ready_because: Callable[[], str | None]) -> Iterator[None]:
    with container:
        try:
            wait_until(lambda: not_ready_because() is None, f"{container.image} serves requests", _READY_DEADLINE_S)
        except BaseException as error:
            error.add_note(_logs(container))
            raise
        yield


def _publish(container: Any, inside: int, port: int) -> None:
    """Let a port of the container be one of this machine's loopback; `with_bind_ports` knows all addresses alone."""
    container.ports[f"{inside}/tcp"] = (LOOPBACK, port)


def _logs(container: DockerContainer) -> str:
    output, errors = container.get_logs()
    return f"{output.decode(errors='replace')}{errors.decode(errors='replace')}"[-4_000:]


def _no_answer_because(url: str) -> str | None:
    engine = sqlalchemy.create_engine(url)
    try:
        engine.connect().close()
    except sqlalchemy.exc.OperationalError as error:
        return str(error)
    finally:
        engine.dispose()
    return None
