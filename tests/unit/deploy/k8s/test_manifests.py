"""The manifests of k8s-operator pass the schemas, the operator's validation and our rules; broken ones do not."""

import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from jobs.graph import JOBS
from jobs.settings import JobConfig, load
from tests.support.manifest_policy import policy_faults
from tests.support.manifests import (
    FOLDERS,
    MANIFESTS,
    OVERLAYS,
    Document,
    is_checked,
    name_of,
    operator_faults,
    rendered,
    schema_fault,
)
from tests.tidy.rules import ROOT

# What an agent of telemetry needs of its node, and no other pod may have.
AGENT: Final = {
    "DaemonSet/collector-agent": [
        "privileged: template mounts /var/lib/otelcol of the host",  # its queue and offsets outlive the pod
        "privileged: template mounts /var/log/pods of the host",
        "privileged: template mounts / of the host",  # host_metrics, read-only
        "root: template otelcol may run as root",  # log files belong to root
        "privileged: template otelcol is privileged, or keeps or can gain capabilities",  # DAC_READ_SEARCH
    ]
}
# Its host is an example: the operator asks for its address, which no example has.
UNKNOWN_HOST: Final = "jarURI host 'jars.example.com' cannot be resolved"


def flink_deployment() -> Document:
    """Return the FlinkDeployment of the development overlay, to be broken."""
    return deepcopy(next(one for one in rendered("overlays/dev") if one["kind"] == "FlinkDeployment"))


class Broken(NamedTuple):
    """A fault in a good FlinkDeployment. check: what refuses it, with these words."""

    name: str
    check: str
    words: str
    change: Callable[[Document], Any]


def _container(document: Document) -> Document:
    found: Document = document["spec"]["podTemplate"]["spec"]["containers"][0]
    return found


def _options(document: Document) -> dict[str, str]:
    found: dict[str, str] = document["spec"]["flinkConfiguration"]
    return found


BROKEN: Final = (
    Broken("unknown-field", "schema", "paralelism", lambda one: one["spec"]["job"].update(paralelism=2)),
    Broken("upgrade-mode", "schema", "'sometimes'", lambda one: one["spec"]["job"].update(upgradeMode="sometimes")),
    Broken("flink-version", "schema", "'v9_9'", lambda one: one["spec"].update(flinkVersion="v9_9")),
    Broken("memory-number", "schema", "2048", lambda one: one["spec"]["jobManager"]["resource"].update(memory=2048)),
    Broken(
        "memory", "operator", "memory parse error",
        lambda one: one["spec"]["jobManager"]["resource"].update(memory="LOTS"),
    ),
    Broken("name", "operator", "is invalid", lambda one: one["metadata"].update(name="Insights_1")),
    Broken(
        "forbidden-key", "operator", "Forbidden Flink config key: kubernetes.cluster-id",
        lambda one: _options(one).update({"kubernetes.cluster-id": "x"}),
    ),
    Broken(
        "savepoint-dir", "operator", "execution.checkpointing.savepoint-dir",
        lambda one: _options(one).pop("execution.checkpointing.savepoint-dir"),
    ),
    Broken(
        "standby-without-ha", "operator", "High availability",
        lambda one: (one["spec"]["jobManager"].update(replicas=2), _options(one).pop("high-availability.type")),
    ),
    Broken(
        "root", "root", "may run as root",
        lambda one: one["spec"]["podTemplate"]["spec"]["securityContext"].update(runAsUser=0),
    ),
    Broken("privileged", "privileged", "", lambda one: _container(one)["securityContext"].update(privileged=True)),
    Broken("image", "writable-root", "", lambda one: _container(one)["securityContext"].pop("readOnlyRootFilesystem")),
    Broken("limits", "limits", "memory", lambda one: one["spec"]["taskManager"]["resource"].pop("memory")),
    Broken(
        "secret-in-configuration", "secret", "s3.secret-key",
        lambda one: _options(one).update({"s3.secret-key": "abc"}),
    ),
    Broken(
        "secret-in-environment", "secret", "LAKE_PASSWORD",
        lambda one: _container(one)["env"].append({"name": "LAKE_PASSWORD", "value": "abc"}),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, str]]:
    """Return what the operator says of each file: a folder, or a broken FlinkDeployment. One JVM for all."""
    folder = tmp_path_factory.mktemp("manifests")
    texts = {name.replace("/", "_"): yaml.safe_dump_all(rendered(name)) for name in FOLDERS}
    for broken in BROKEN:
        document = flink_deployment()
        broken.change(document)
        texts[broken.name] = yaml.safe_dump(document)
    snapshot = (MANIFESTS / "snapshot.yaml").read_text().replace("generateName: insights-", "name: snapshot")
    texts["snapshot"] = f"{yaml.safe_dump(flink_deployment())}---\n{snapshot}"
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return operator_faults(folder, texts)


def test_each_folder_is_checked_alone_or_as_a_part_of_another() -> None:
    found, waiting = set[Path](), [MANIFESTS / folder for folder in FOLDERS]
    while waiting:
        folder = waiting.pop()
        found.add(folder)
        listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
        parts = (folder / part for kind in ("resources", "components") for part in listed.get(kind, ()))
        waiting += [part.resolve() for part in parts if part.is_dir()]
    assert {file.parent for file in MANIFESTS.rglob("kustomization.yaml")} <= found


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_document_fits_the_schema_of_its_kind_and_our_rules(folder: str) -> None:
    documents = rendered(folder)
    assert {name_of(one): fault for one in documents if is_checked(one) and (fault := schema_fault(one))} == {}
    assert {name_of(one): faults for one in documents if (faults := policy_faults(one))} == (
        AGENT if folder in ("collector", "collector-observability") else {}
    )


def test_what_prometheus_reads_is_checked_by_a_schema() -> None:
    documents = [one for one in rendered("overlays/prod") if one["apiVersion"].startswith("monitoring.coreos.com")]
    if not all(map(is_checked, documents)):
        pytest.skip("PodMonitor and PrometheusRule have no schema: `make operator` fetches it where Go is installed")
    rule = next(one for one in documents if one["kind"] == "PrometheusRule")
    broken = {**rule, "spec": {"groups": [{"name": "job", "rules": [{"alert": "Down"}]}]}}
    assert "'expr' is a required property" in schema_fault(broken)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_operator_accepts_each_of_its_resources(folder: str, refused: Mapping[str, dict[str, str]]) -> None:
    said = refused[folder.replace("/", "_")]
    assert said.keys() == {name_of(one) for one in rendered(folder) if one["kind"].startswith("Flink")}
    assert {name: fault for name, fault in said.items() if fault not in ("", UNKNOWN_HOST)} == {}


def test_the_snapshot_on_request_is_accepted(refused: Mapping[str, dict[str, str]]) -> None:
    assert refused["snapshot"] == {"FlinkDeployment/insights": "", "FlinkStateSnapshot/snapshot": ""}
    assert schema_fault(yaml.safe_load((MANIFESTS / "snapshot.yaml").read_text())) == ""


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_manifest_is_refused_by_the_check_that_is_for_it(
    broken: Broken, refused: Mapping[str, dict[str, str]]
) -> None:
    document = flink_deployment()
    broken.change(document)
    if broken.check == "schema":
        assert broken.words in schema_fault(document)
    elif broken.check == "operator":
        (said,) = refused[broken.name].values()
        assert broken.words in said
    else:
        (fault,) = policy_faults(document)
        assert fault.startswith(f"{broken.check}: ")
        assert broken.words in fault


def test_a_password_in_the_settings_of_a_job_is_refused() -> None:
    settings = (MANIFESTS / "overlays/dev/config/insights.yaml").read_text()
    config = {"kind": "ConfigMap", "data": {"job.yaml": settings}}
    assert policy_faults(config) == []
    config["data"] = {"job.yaml": f"{settings}\n  password: abc\n"}
    assert policy_faults(config) == ["secret: job.yaml has password in clear text"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_job_of_an_overlay_gets_its_settings_and_the_operator_sizes_it_as_they_say(
    overlay: str, tmp_path: Path
) -> None:
    documents = rendered(overlay)
    texts = {one["metadata"]["name"]: one["data"]["job.yaml"] for one in documents if one["kind"] == "ConfigMap"}
    for deployment in (one for one in documents if one["kind"] == "FlinkDeployment"):
        job, config = deployment["spec"]["job"], _settings_of(deployment, texts, tmp_path)
        arguments = job["args"]
        assert arguments[arguments.index("--job") + 1] in JOBS
        assert config.name == deployment["metadata"]["name"], "the name of the job is that of its FlinkDeployment"
        assert (config.engine.parallelism, config.engine.checkpoint_dir) == (job["parallelism"], "")


def _settings_of(deployment: Document, texts: Mapping[str, str], folder: Path) -> JobConfig:
    volumes = deployment["spec"]["podTemplate"]["spec"]["volumes"]
    name = next(volume["configMap"]["name"] for volume in volumes if volume["name"] == "config")
    file = folder / "job.yaml"
    file.write_text(texts[name])
    return load(file)


def test_flink_is_configured_as_flink_conf_says_but_for_what_differs_in_kubernetes() -> None:
    """flink-conf has the reasons; what is left out there or has another value here is named."""
    others = {
        "metrics.reporter.prom.port",  # one process a pod
        "env.java.opts.taskmanager",  # the folder of logs
        "metrics.reporter.otel.factory.class", "metrics.reporter.otel.exporter.protocol",  # not among the reporters
        "metrics.reporter.otel.service.name", "metrics.reporter.otel.interval",
        "taskmanager.memory.process.size", "jobmanager.memory.process.size",  # from spec.*.resource
        "jobmanager.bind-host", "taskmanager.bind-host", "rest.bind-address",  # Flink sets them in pods
    }  # fmt: skip
    files = [ROOT / "flink-conf" / name for name in ("config.yaml", "application.yaml")]
    wanted = {key: value for file in files for key, value in yaml.safe_load(file.read_text()).items()}
    deployment = next(one for one in rendered("jobs/insights") if one["kind"] == "FlinkDeployment")
    found = deployment["spec"]["flinkConfiguration"]
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in wanted.items()}
    assert {key: found.get(key) for key in texts if key not in others} == {
        key: text for key, text in texts.items() if key not in others
    }


def test_the_alert_rules_are_those_of_grafana() -> None:
    """`GOLDEN=write` writes them: the Prometheus Operator takes the groups of a rule file in an object of its own."""
    rules = ROOT / "deploy/grafana/rules"
    wanted = [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": f"metric-reasoner-{file.stem}"},
            "spec": yaml.safe_load(file.read_text()),
        }
        for file in sorted(rules.glob("*.yaml"))
    ]
    file = MANIFESTS / "monitoring/prometheus-rules.yaml"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(
            f"# Written from deploy/grafana/rules by GOLDEN=write.\n{yaml.safe_dump_all(wanted, width=1000)}"
        )
    assert list(yaml.safe_load_all(file.read_text())) == wanted
