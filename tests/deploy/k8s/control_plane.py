"""etcd, API server and controllers of Kubernetes, and Flink's operator, as processes on loopback."""

import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import yaml

from reasoner.folders import tools
from reasoner.stack.component import Component
from reasoner.stack.environment import java_home
from reasoner.stack.settings import LOOPBACK, free_ports
from reasoner.stack.supervisor import Supervisor
from tests.deploy.k8s.api import KubeApi

_PROGRAMS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
_DEADLINE_S: Final = 120.0  # 5 s on an idle machine
# Controllers that the jobs need, and the one that follows the budgets of disruptions.
_CONTROLLERS: Final = (
    "deployment-controller,replicaset-controller,garbage-collector-controller,namespace-controller,"
    "serviceaccount-controller,disruption-controller"
)


def programs() -> Path:
    """Return the folder of the part `kubernetes`; skip with the reason where it is not built."""
    folder = tools() / "kubernetes"
    if not all((folder / name).exists() for name in _PROGRAMS):
        pytest.skip("no API server is built: run `make kubernetes` (7 to 15 minutes, once)")
    return folder


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane. admin: its client with all rights. hosts: file of the names that its programs know."""

    supervisor: Supervisor
    folder: Path
    admin: KubeApi
    kubeconfig: Path
    hosts: Path

    def kubectl(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator with `text` as its input."""
        return subprocess.run(
            [str(programs() / "kubectl"), *arguments],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=_DEADLINE_S,
        )

    def apply(self, text: str, *options: str) -> str:
        """Apply manifests as `kubectl apply --server-side` does; return what it says. Fails where one is refused."""
        done = self.kubectl("apply", "--server-side", "--validate=strict", *options, "-f", "-", text=text)
        assert not done.returncode, done.stderr
        return done.stdout


@contextmanager
def control_plane(folder: Path, namespace: str) -> Iterator[ControlPlane]:
    """Start a control plane in the folder and stop it afterwards. namespace: of its client."""
    binaries = programs()
    client, peer, secure, manager = free_ports(4)
    token = secrets.token_hex(16)
    admin = KubeApi(f"https://{LOOPBACK}:{secure}", token, folder / "certs/apiserver.crt", namespace)
    hosts = folder / "hosts"
    supervisor = Supervisor(folder, die_with_parent=True)
    folder.mkdir(parents=True, exist_ok=True)
    hosts.write_text(f"{LOOPBACK} localhost {os.uname().nodename}\n")
    # The first needs no other; the certificate of the server is there when it is ready.
    made = (
        _etcd(binaries, folder, client, peer),
        _api_server(binaries, folder, admin, client),
        _controllers(binaries, folder, admin, manager),
    )
    try:
        for component in made:
            supervisor.up([component])
        yield ControlPlane(supervisor, folder, admin, folder / "kubeconfig", hosts)
    finally:
        supervisor.down()


def _etcd(binaries: Path, folder: Path, client: int, peer: int) -> Component:
    client_url, peer_url = f"http://{LOOPBACK}:{client}", f"http://{LOOPBACK}:{peer}"
    options = {
        "data-dir": str(folder / "etcd/data"),
        "listen-client-urls": client_url,
        "advertise-client-urls": client_url,
        "listen-peer-urls": peer_url,
        "initial-advertise-peer-urls": peer_url,
        "initial-cluster": f"default={peer_url}",
    }
    command = [str(binaries / "etcd"), *_flags(options), "--unsafe-no-fsync"]
    place = folder / "etcd"
    return Component(
        name="etcd", folder=place, command=lambda: command, prepare=partial(place.mkdir, parents=True, exist_ok=True),
        ports={"etcd_port": client, "etcd_peer_port": peer},
    )  # fmt: skip


def _api_server(binaries: Path, folder: Path, admin: KubeApi, etcd: int) -> Component:
    port = int(admin.url.rpartition(":")[2])
    key, tokens, place = folder / "sa.key", folder / "tokens.csv", folder / "api"
    options = {
        "etcd-servers": f"http://{LOOPBACK}:{etcd}",
        "bind-address": LOOPBACK,
        "advertise-address": LOOPBACK,
        "secure-port": str(port),
        "cert-dir": str(folder / "certs"),
        "service-cluster-ip-range": "10.99.0.0/24",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": str(key),
        "service-account-signing-key-file": str(key),
        "token-auth-file": str(tokens),
        "authorization-mode": "RBAC",
        "endpoint-reconciler-type": "none",  # this server is in no cluster
        "enable-priority-and-fairness": "false",
    }

    def prepare() -> None:
        place.mkdir(parents=True, exist_ok=True)
        for file in (key, tokens):
            file.touch(mode=0o600)
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True, timeout=60)
        tokens.write_text(f'{admin.token},admin,admin,"system:masters"\n')

    def not_ready_because() -> str | None:
        return None if admin.certificate.exists() and admin.ready() else f"{admin.url}/readyz does not answer"

    return Component(
        name="kube-apiserver", folder=place, command=lambda: [str(binaries / "kube-apiserver"), *_flags(options)],
        prepare=prepare, not_ready_because=not_ready_because, ready_deadline_s=_DEADLINE_S,
        ports={"api_port": port},
    )  # fmt: skip


def _controllers(binaries: Path, folder: Path, admin: KubeApi, port: int) -> Component:
    kubeconfig, place = folder / "kubeconfig", folder / "controllers"
    options = {
        "kubeconfig": str(kubeconfig),
        "leader-elect": "false",
        "bind-address": LOOPBACK,
        "secure-port": str(port),
        "service-account-private-key-file": str(folder / "sa.key"),
        "controllers": _CONTROLLERS,
    }

    def prepare() -> None:
        place.mkdir(parents=True, exist_ok=True)
        admin.write_kubeconfig(kubeconfig)

    return Component(
        name="kube-controller-manager", folder=place, prepare=prepare, ports={"controllers_port": port},
        command=lambda: [str(binaries / "kube-controller-manager"), *_flags(options)],
    )  # fmt: skip


def _flags(options: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def operator(plane: ControlPlane) -> Component:
    """Return Flink's operator, which reconciles all namespaces: the real one with the classes of operator/stubs."""
    place, jars = plane.folder / "operator", tools() / "jars/operator"
    path = [tools() / "operator/classes", *jars.glob("flink-kubernetes-operator-1.*.jar"), jars / "*"]
    settings = {
        # The metrics and the probe of the operator itself would listen on all addresses.
        "kubernetes.operator.health.probe.enabled": False,
        "kubernetes.operator.josdk.metrics.enabled": False,
        # A test waits for it: 60 s by default.
        "kubernetes.operator.reconcile.interval": "5 s",
        "kubernetes.operator.observer.progress-check.interval": "3 s",
    }

    def prepare() -> None:
        place.mkdir(parents=True, exist_ok=True)
        # flink-kubernetes 1.20 reads the older name.
        for name in ("config.yaml", "flink-conf.yaml"):
            (place / name).write_text(yaml.safe_dump(settings))

    def command() -> list[str]:
        java = [str(java_home() / "bin/java"), "-Xmx384m", "-XX:TieredStopAtLevel=1"]
        # It leaves templates of pods behind in the folder of temporary files.
        properties = (f"-Djdk.net.hosts.file={plane.hosts}", f"-Djava.io.tmpdir={place}")
        classes = ":".join(map(str, path))
        return [*java, *properties, "-cp", classes, "org.apache.flink.kubernetes.operator.FlinkOperator"]

    def environment() -> dict[str, str]:
        names = {"OPERATOR_NAMESPACE": "flink-operator", "OPERATOR_NAME": "flink-kubernetes-operator"}
        return {**os.environ, **names, "KUBECONFIG": str(plane.kubeconfig), "FLINK_CONF_DIR": str(place)}

    return Component(name="operator", folder=place, prepare=prepare, command=command, environment=environment)
