"""The API server takes every manifest, refuses pods with more rights, and gives accounts the rights that they need."""

from copy import deepcopy
from typing import Any, Final

import pytest
import yaml

from tests.deploy.k8s.api import KubeApi, Object, Refused
from tests.deploy.k8s.control_plane import ControlPlane
from tests.deploy.k8s.overlay import NAMESPACE
from tests.support.manifests import FOLDERS, MANIFESTS, rendered

pytestmark = pytest.mark.deploy

OBSERVABILITY: Final = "observability"
DEVELOPER: Final = ("--as", "dev", "--as-group", "metric-reasoner-developers")
FLINK: Final = ("--as", f"system:serviceaccount:{NAMESPACE}:flink")
AGENT: Final = ("--as", f"system:serviceaccount:{OBSERVABILITY}:collector-agent")
# Of whom, verb, kind -> whether it is allowed.
RIGHTS: Final = {
    (DEVELOPER, "patch", "flinkdeployments"): True,
    (DEVELOPER, "create", "flinkstatesnapshots"): True,
    (DEVELOPER, "get", "pods/log"): True,
    (DEVELOPER, "create", "pods/portforward"): True,
    (DEVELOPER, "create", "configmaps"): True,
    (DEVELOPER, "get", "secrets"): False,
    (DEVELOPER, "create", "pods/exec"): False,
    (DEVELOPER, "create", "pods"): False,
    (DEVELOPER, "delete", "flinkdeployments"): False,
    (FLINK, "create", "pods"): True,
    (FLINK, "patch", "configmaps"): True,
    (FLINK, "get", "secrets"): False,
    (FLINK, "update", "deployments"): False,
    (FLINK, "create", "pods/exec"): False,
    (AGENT, "list", "pods"): True,
    (AGENT, "get", "nodes/metrics"): True,
    (AGENT, "get", "nodes/proxy"): False,
    (AGENT, "get", "secrets"): False,
    (AGENT, "get", "pods/log"): False,
    (AGENT, "delete", "pods"): False,
}


@pytest.fixture(scope="module")
def namespaces(plane: ControlPlane) -> None:
    """Create the namespaces, and accounts with their rights of the development overlay and the Collectors."""
    documents = [one for folder in FOLDERS for one in rendered(folder)]
    plane.apply(yaml.safe_dump_all([one for one in documents if one["kind"] == "Namespace"]))
    kinds = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    granted = [one for folder in ("overlays/dev", "collector") for one in rendered(folder) if one["kind"] in kinds]
    plane.apply(yaml.safe_dump_all(granted))


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_api_server_takes_each_document(plane: ControlPlane, folder: str) -> None:
    """Those of no namespace, which are for an overlay, go into that of the development overlay."""
    documents = rendered(folder)
    named = {one["metadata"].get("namespace") for one in documents} - {None}
    (namespace,) = named or {NAMESPACE}
    said = plane.apply(yaml.safe_dump_all(documents), "--dry-run=server", "-n", namespace)
    assert said.count("\n") == len(documents)


@pytest.mark.usefixtures("namespaces")
def test_the_api_server_takes_a_snapshot(plane: ControlPlane) -> None:
    made = plane.kubectl("create", "--dry-run=server", "-n", NAMESPACE, "-f", str(MANIFESTS / "snapshot.yaml"))
    assert not made.returncode, made.stderr


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(("who", "verb", "kind"), [(DEVELOPER, "patch", "flinkdeployments"), (FLINK, "create", "pods")])
def test_rights_end_at_the_namespace(plane: ControlPlane, who: tuple[str, ...], verb: str, kind: str) -> None:
    asked = plane.kubectl("auth", "can-i", verb, kind, "-n", OBSERVABILITY, *who)
    assert asked.stdout.strip() == "no", asked.stderr


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(("who", "verb", "kind"), RIGHTS)
def test_an_account_may_do_what_it_needs_and_no_more(
    plane: ControlPlane, who: tuple[str, ...], verb: str, kind: str
) -> None:
    resource, _, part = kind.partition("/")  # can-i takes what is behind a slash for a name
    asked = plane.kubectl("auth", "can-i", verb, resource, f"--subresource={part}", "-n", NAMESPACE, *who)
    assert asked.stdout.strip() == ("yes" if RIGHTS[who, verb, kind] else "no"), asked.stderr


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"runAsNonRoot": False}, "runAsNonRoot"),
        ({"privileged": True}, "privileged"),
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
        ({"capabilities": {"add": ["SYS_ADMIN"]}}, "capabilities"),
    ],
)
def test_the_namespace_refuses_a_pod_with_more_rights(plane: ControlPlane, change: dict[str, Any], said: str) -> None:
    admin = plane.admin
    admin.create("Pod", _pod("good"))
    admin.delete("Pod", "good")
    pod = _pod("bad")
    pod["spec"]["containers"][0]["securityContext"].update(change)
    with pytest.raises(Refused, match=said):
        admin.create("Pod", pod)


def _pod(name: str) -> Object:
    """Return the pod of the template, as the Job `prepare` has it."""
    job = next(one for one in rendered("overlays/dev/prepare") if one["kind"] == "Job")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": deepcopy(job["spec"]["template"]["spec"]),
    }


def test_an_unknown_field_is_refused(plane: ControlPlane) -> None:
    broken = deepcopy(next(one for one in rendered("overlays/dev") if one["kind"] == "FlinkDeployment"))
    broken["spec"]["job"]["paralelism"] = 2
    with pytest.raises(AssertionError, match="paralelism: field not declared in schema"):
        plane.apply(yaml.safe_dump(broken), "--dry-run=server")


def test_an_unknown_token_is_refused(plane: ControlPlane) -> None:
    admin = plane.admin
    with pytest.raises(Refused, match="Unauthorized"):
        KubeApi(admin.url, "wrong", admin.certificate, NAMESPACE).list("Pod")
