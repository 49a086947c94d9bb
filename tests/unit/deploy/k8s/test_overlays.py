"""What the overlays of k8s-operator and its Collectors need of a cluster, and what two of them do not share."""

import re
import shutil
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from jobs.settings import JobConfig, load
from jobs.sinks import topic_table
from tests.support.manifests import MANIFESTS, OVERLAYS, PREPARE, Document, name_of, rendered
from tests.tidy.rules import ROOT

STATE: Final = ("execution.checkpointing.dir", "execution.checkpointing.savepoint-dir", "high-availability.storageDir")
PREFIX: Final = re.compile(r"'sink\.transactional-id-prefix'='([^']+)'")


def of_kind(folder: str, kind: str) -> list[Document]:
    return [one for one in rendered(folder) if one["kind"] == kind]


def pods(folder: str) -> Iterator[Mapping[str, Any]]:
    """Yield the specs of the pods of a folder."""
    for one in rendered(folder):
        if one["kind"] == "FlinkDeployment":
            yield {**one["spec"]["podTemplate"]["spec"], "serviceAccountName": one["spec"]["serviceAccount"]}
        elif one["kind"] in ("Job", "DaemonSet", "StatefulSet"):
            yield one["spec"]["template"]["spec"]


def settings(overlay: str, folder: Path) -> Iterator[JobConfig]:
    """Yield the settings of each job of an overlay."""
    for one in of_kind(overlay, "ConfigMap"):
        file = folder / "job.yaml"
        file.write_text(one["data"]["job.yaml"])
        yield load(file)


def regions(folder: str) -> list[str]:
    return [
        variable["value"]
        for pod in pods(folder)
        for container in pod["containers"]
        for variable in container["env"]
        if variable["name"] == "AWS_REGION"
    ]


def back_ends(overlay: str, folder: Path) -> set[str]:
    """Return what a second job must not use too; each ends with a sign that no name has."""
    found = set()
    for config in settings(overlay, folder):
        topics = config.kafka.topics
        found |= {f"group {config.kafka.group_id}/", f"{config.lake.uri}/", f"{config.lake.warehouse}/"}
        for topic in (topics.insights, topics.rejected):
            declared = topic_table("sink", lambda _, topic=topic: topic)(config)  # type: ignore[misc]
            found |= {f"topic {topic}/", *(f"transactions {prefix}-" for prefix in PREFIX.findall(declared))}
    for deployment in of_kind(overlay, "FlinkDeployment"):
        found |= {f"{deployment['spec']['flinkConfiguration'][option]}/" for option in STATE}
    return found


def test_two_overlays_share_no_table_no_state_no_offsets_and_no_transaction(tmp_path: Path) -> None:
    """A job aborts the open transactions of its prefix at start, also those of a prefix that begins with it."""
    found = {overlay: back_ends(overlay, tmp_path) for overlay in OVERLAYS}
    assert all(sum(name.startswith("transactions ") for name in names) >= 2 for names in found.values())
    for first, second in combinations(found.values(), 2):
        shared = {(a, b) for a in first for b in second if a.startswith(b) or b.startswith(a)}
        assert shared == set()


@pytest.mark.parametrize("folder", [*OVERLAYS, *PREPARE])
def test_each_pod_of_a_job_has_the_account_to_which_a_role_belongs(folder: str) -> None:
    (account,) = of_kind(folder, "ServiceAccount")
    found = list(pods(folder))
    assert found
    assert {pod.get("serviceAccountName") for pod in found} == {account["metadata"]["name"]}
    assert {one["metadata"].get("namespace") for one in rendered(folder) if one["kind"] != "Namespace"} == {
        account["metadata"]["namespace"]
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_region_and_image_are_set_in_one_folder_for_the_jobs_and_for_what_prepares_them(
    overlay: str, tmp_path: Path
) -> None:
    for name in ("k8s-operator", "flink-conf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    config = tmp_path / MANIFESTS.name / overlay / "config"
    for file, old, new in (
        ("places.yaml", "us-east-1", "eu-west-3"),
        ("kustomization.yaml", "registry.example.com/metric-reasoner", "elsewhere.example.com/reasoner"),
    ):
        text = (config / file).read_text()
        assert text.count(old) == 1
        (config / file).write_text(text.replace(old, new))
    for folder in (str(config.parent), str(config.parent / "prepare")):
        assert set(regions(folder)) == {"eu-west-3"}
        text = yaml.safe_dump_all(rendered(folder))
        assert set(re.findall(r"image: (\S+)", text)) == {"elsewhere.example.com/reasoner:0.1.0"}
        assert "kind: ConfigMap\nmetadata:\n  name: places" not in text, "it is for kustomize alone"


@pytest.mark.parametrize("folder", ["overlays/dev", *PREPARE, "session", "collector"])
def test_jobs_and_collectors_run_where_the_prometheus_operator_is_not(folder: str) -> None:
    groups = {one["apiVersion"].rpartition("/")[0] for one in rendered(folder)}
    assert {group for group in groups if "." in group and not group.endswith(".k8s.io")} <= {"flink.apache.org"}


@pytest.mark.parametrize("folder", ["overlays/prod", "collector/monitoring"])
def test_the_prometheus_operator_of_its_helm_chart_reads_what_is_for_it(folder: str) -> None:
    found = [one for one in rendered(folder) if one["apiVersion"].startswith("monitoring.coreos.com")]
    assert "PodMonitor" in {one["kind"] for one in found}
    assert {one["metadata"]["labels"]["release"] for one in found} == {"kube-prometheus-stack"}


def test_the_collectors_are_of_the_image_that_compose_has() -> None:
    image = re.search(r"COLLECTOR_IMAGE:-([^}]+)}", (ROOT / "docker-compose.yml").read_text())
    assert image is not None
    found = {container["image"] for pod in pods("collector") for container in pod["containers"]}
    assert found == {image.group(1)}


def test_no_gateway_is_taken_away_by_its_load() -> None:
    """With Kafka away a gateway has no work and a full queue."""
    (scaler,) = of_kind("collector", "HorizontalPodAutoscaler")
    assert scaler["spec"]["behavior"]["scaleDown"] == {"selectPolicy": "Disabled"}


@pytest.mark.parametrize("folder", ["overlays/dev", "collector"])
def test_each_pod_that_may_speak_reaches_dns_wherever_it_is(folder: str) -> None:
    """A cache on the node has an address of no pod; OpenShift's pods have another label, namespace and port."""
    speaking = {
        name_of(one): one["spec"]["egress"] for one in of_kind(folder, "NetworkPolicy") if "egress" in one["spec"]
    }
    wanted = {(protocol, port) for protocol in ("UDP", "TCP") for port in (53, 5353)}
    assert len(speaking) == 2
    for name, rules in speaking.items():
        open_ports = {(port["protocol"], port["port"]) for rule in rules if "to" not in rule for port in rule["ports"]}
        assert wanted <= open_ports, name


def test_gateways_that_sample_find_each_other_and_reach_what_they_send_to() -> None:
    """The Service of the agents has one address: spans of a trace would be decided apart."""
    folder = "collector-observability"
    (gateways,) = of_kind(folder, "StatefulSet")
    (container,) = gateways["spec"]["template"]["spec"]["containers"]
    files = [Path(argument.removeprefix("--config=")).name for argument in container["args"]]
    (config,) = (
        one for one in of_kind(folder, "ConfigMap") if one["metadata"]["name"].startswith("collector-gateway-")
    )
    assert files == ["gateway.yaml", "gateway-observability.yaml", "gateway-dns.yaml"]
    assert set(files) <= config["data"].keys()

    env = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    services = {f"{one['metadata']['name']}.observability.svc": one["spec"] for one in of_kind(folder, "Service")}
    peers = services[env["SAMPLING_DNS"]]
    assert peers["clusterIP"] == "None"
    assert peers["selector"] == gateways["spec"]["selector"]["matchLabels"]
    assert f"{gateways['spec']['serviceName']}.observability.svc" == env["SAMPLING_DNS"]
    assert env["GATEWAY_NAME"] == "collector-gateway.observability.svc", "the name in the certificate"

    policies = [
        one["spec"] for one in of_kind(folder, "NetworkPolicy")
        if one["spec"]["podSelector"] == {"matchLabels": peers["selector"]}
    ]  # fmt: skip
    taken = {port["port"] for one in policies for rule in one["ingress"] for port in rule["ports"]}
    sent = {port["port"] for one in policies for rule in one["egress"] for port in rule["ports"]}
    targets = {int(re.findall(r":(\d+)", env[name])[0]) for name in ("LOKI", "MIMIR", "TEMPO")}
    sampling = {port["port"] for port in peers["ports"]}
    assert sampling == {14319}
    assert sampling <= taken
    assert sampling | targets <= sent
