"""A control plane with the operator, and the stack beside it, for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from reasoner.stack import RunningStack, StackSettings, running
from reasoner.stack.environment import s3_server
from reasoner.waiting import wait_until
from tests.deploy.k8s.control_plane import ControlPlane, control_plane, operator, programs
from tests.deploy.k8s.kubelet import Kubelet, kubelet
from tests.deploy.k8s.overlay import NAMESPACE
from tests.deploy.k8s.pod_files import bubblewrap
from tests.support.components import skip_unless_set_up, skip_without, skip_without_postgres
from tests.support.manifests import operator_parts

SERVICES = (f"insights-rest.{NAMESPACE}", f"insights.{NAMESPACE}")


@pytest.fixture(scope="package")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Start the control plane with the resource definitions, and the operator."""
    programs()
    folder = tmp_path_factory.mktemp("kubernetes")
    with control_plane(folder, NAMESPACE) as started:
        definitions = [yaml.safe_load(file.read_text()) for file in sorted((operator_parts() / "crds").iterdir())]
        for definition in definitions:
            # The API server refuses this one as the operator ships it: spec.subresources.scale.statusReplicasPath.
            if definition["spec"]["names"]["kind"] == "FlinkBlueGreenDeployment":
                definition["spec"]["versions"][0]["subresources"].pop("scale")
        started.apply(yaml.safe_dump_all(definitions))
        wait = ("wait", "--for=condition=established", "--timeout=60s", "crd", "--all")
        wait_until(lambda: not started.kubectl(*wait).returncode, "the resource definitions are served", 120.0)
        with started.hosts.open("a") as hosts:
            hosts.writelines(f"127.0.0.1 {name}\n" for name in SERVICES)
        started.supervisor.up([operator(started)])
        yield started


@pytest.fixture
def nodes(plane: ControlPlane, tmp_path: Path) -> Iterator[Kubelet]:
    """Run the pods of the namespace on this machine."""
    bubblewrap()
    # The optimising compiler of the JVM is used too late in a test (tests/support/components.py).
    variables = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
    with kubelet(Kubelet(plane.admin, tmp_path / "pods", SERVICES, variables)) as made:
        yield made


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    """Start Kafka, PostgreSQL and S3."""
    skip_unless_set_up()
    skip_without_postgres()
    skip_without(s3_server)
    with running(StackSettings(folder=tmp_path / "stack").with_auto_ports(), ["kafka", "postgres", "s3"]) as started:
        yield started
