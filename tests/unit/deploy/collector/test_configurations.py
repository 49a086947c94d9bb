"""The Collector's files: valid in each form in which they are started, and made of what the program is built from."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from state_schemas.contracts.settings import Topics
from tests.support.parts import HAPROXY, OTELCOL, skip_unless_made
from tests.tidy.rules import ROOT

FOLDER: Final = ROOT / "deploy" / "collector"
GATEWAY, AGENT = ("gateway.yaml",), ("agent.yaml",)
LISTS: Final = {
    "JSON_LOGS": "[/a/*.json, /b/*.json]",
    "CADVISOR_TARGETS": "[127.0.0.1:8080, other:8080]",
    "KAFKA_BROKERS": "[kafka-1:9092, kafka-2:9092]",
    "SAMPLING_GATEWAYS": "[gateway-1:14319, gateway-2:14319]",
    "LISTEN_HOST": "0.0.0.0",
    "HOST_ROOT": "/",
    "FSYNC": "true",
    "SAMPLING_PERCENT": "0.5",
    "QUEUE_BYTES": "1000000",
}
NUMBERS_AS_NAMES: Final = {"ENVIRONMENT": "2026", "SITE_ID": "007", "MIMIR_TENANT": "1", "GATEWAY_NAME": "gw"}
# Unchecked, because the program that is built here lacks its receiver.
OF_THE_PUBLIC_IMAGE: Final = {"agent-docker.yaml"}


def starts(secret: Path) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """Return each form in which the files are started, with its variables. secret: a file, which the program reads."""
    sasl = {"KAFKA_PASSWORD_FILE": str(secret)}
    pod = {"KUBELET_TOKEN": str(secret), "NODE_NAME": "node-1", "NODE_IP": "10.0.0.1", "FSYNC": "true"}
    everything = (*GATEWAY, "gateway-observability.yaml", "gateway-dns.yaml", "gateway-kafka-sasl.yaml")
    return {
        "agent": (AGENT, {}),
        "agent with lists": (AGENT, LISTS),
        "agent with numbers as names": (AGENT, NUMBERS_AS_NAMES),
        "agent in kubernetes": ((*AGENT, "agent-kubernetes.yaml"), pod),
        "gateway": (GATEWAY, {}),
        "gateway with lists": (GATEWAY, LISTS),
        "gateway with sasl": ((*GATEWAY, "gateway-kafka-sasl.yaml"), sasl),
        "gateway with observability": ((*GATEWAY, "gateway-observability.yaml"), NUMBERS_AS_NAMES),
        "gateway with all": (everything, {**sasl, **LISTS}),
        "recorder": (("recorder.yaml",), {}),
        "one collector": (("collector.yaml",), {}),
    }


def validate(files: tuple[str, ...], variables: dict[str, str], **changed: str) -> str:
    """Return what the program says against the files, "" if they are valid."""
    skip_unless_made(OTELCOL)
    words = [str(OTELCOL), "validate", *(f"--config={FOLDER / file}" for file in files)]
    words += [f"--config=yaml:{key}: {value}" for key, value in changed.items()]
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert bool(done.returncode) == bool(done.stderr), done
    return done.stderr


@pytest.mark.parametrize("form", starts(Path("secret")))
def test_the_files_are_valid_as_they_are_started(form: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    files, variables = starts(secret)[form]
    assert validate(files, variables) == ""


def test_a_misspelt_key_is_not_valid() -> None:
    """Catch a check that accepts everything."""
    assert "endpont" in validate(AGENT, {}, **{"exporters::otlp_grpc::endpont": "x"})


def test_each_file_is_checked_or_named_as_unchecked() -> None:
    checked = {file for files, _ in starts(Path("secret")).values() for file in files}
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"builder.yaml", "kustomization.yaml"}
    assert there == checked | OF_THE_PUBLIC_IMAGE


def test_the_program_is_built_from_what_the_files_use() -> None:
    """Catch a component that no file uses, which costs every user minutes, and one that is not built."""
    used = set()
    for path in FOLDER.glob("*.yaml"):
        if path.name not in OF_THE_PUBLIC_IMAGE:
            used |= components(yaml.safe_load(path.read_text()))
    built = yaml.safe_load((FOLDER / "builder.yaml").read_text())
    modules = [
        entry["gomod"] for kind in ("extensions", "receivers", "processors", "exporters") for entry in built[kind]
    ]
    names = {
        re.sub("(extension|receiver|processor|exporter)$", "", module.split()[0].split("/")[-1]) for module in modules
    }
    assert {module.split()[1] for module in modules} == {"v0.158.0"}
    assert names == used


def components(file: dict[str, Any]) -> set[str]:
    """Return the components of a file, named as their modules: `otlp_grpc/tempo` is of the module otlpexporter."""
    aliases = {"otlpgrpc": "otlp"}
    kinds = ("extensions", "receivers", "processors", "exporters")
    found = {name.split("/")[0].replace("_", "") for kind in kinds for name in file.get(kind, {}) if "dist" not in file}
    return {aliases.get(name, name) for name in found}


def test_the_balancer_is_valid() -> None:
    skip_unless_made(HAPROXY)
    command = [str(HAPROXY), "-c", "-f", str(FOLDER / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_certificate_of_a_gateway_serves_and_sends_and_that_of_an_agent_only_sends(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = [str(FOLDER / "certificates.sh"), str(tmp_path), "gateway.example.org"]
    subprocess.run(made, check=True, timeout=60)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    subprocess.run(made, check=True, timeout=60)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first, "what is there stays"
    assert [path.name for path in tmp_path.glob("*.key") if path.stat().st_mode & 0o077] == []

    # One that ends soon, and one that lacks a name; names that it has stay.
    short = "openssl x509 -req -days 10 -CA ca.crt -CAkey ca.key -copy_extensions copy"
    renew = f"openssl x509 -x509toreq -copy_extensions copy -in agent.crt -signkey agent.key | {short} -out agent.crt"
    subprocess.run(["bash", "-c", renew], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    subprocess.run([*made[:2], "second.example.org"], check=True, timeout=60)
    ends = ["openssl", "x509", "-noout", "-checkend", str(300 * 86_400), "-in", str(tmp_path / "agent.crt")]
    assert subprocess.run(ends, check=False, capture_output=True, timeout=60).returncode == 0
    assert (tmp_path / "agent.key").read_bytes() == first["agent.key"]

    def serves(name: str, *options: str) -> bool:
        verify = ["openssl", "verify", "-CAfile", str(tmp_path / "ca.crt"), *options, str(tmp_path / f"{name}.crt")]
        return subprocess.run(verify, capture_output=True, check=False, timeout=60).returncode == 0

    server = ("-purpose", "sslserver", "-verify_hostname", "gateway.example.org")
    assert serves("gateway", *server)
    assert serves("gateway", "-verify_hostname", "second.example.org")
    assert serves("gateway", "-purpose", "sslclient")
    assert serves("agent", "-purpose", "sslclient")
    assert not serves("agent", "-purpose", "sslserver")


def test_the_gateway_writes_the_topics_that_the_job_reads() -> None:
    kafka = yaml.safe_load((FOLDER / "gateway.yaml").read_text())["exporters"]["kafka"]
    defaults = {
        signal: kafka[signal]["topic"].partition(":-")[2].rstrip("}") for signal in ("traces", "logs", "metrics")
    }
    topics = Topics()
    assert defaults == {"traces": topics.traces, "logs": topics.logs, "metrics": topics.metrics}


def test_what_is_acknowledged_is_on_disk_until_kafka_has_it() -> None:
    """Catch a batch processor before the queue, a queue in memory, an end of the retries, acks of the leader alone."""
    agent, gateway = (yaml.safe_load((FOLDER / name).read_text()) for name in ("agent.yaml", "gateway.yaml"))
    for exporter in (agent["exporters"]["otlp_grpc"], gateway["exporters"]["kafka"]):
        assert exporter["sending_queue"]["storage"] == "file_storage"
        assert exporter["retry_on_failure"]["max_elapsed_time"] == 0
    assert gateway["exporters"]["kafka"]["producer"]["required_acks"] == -1
    in_memory = {"batch", "tail_sampling"}
    pipelines = [*agent["service"]["pipelines"].values(), *gateway["service"]["pipelines"].values()]
    assert not [pipeline for pipeline in pipelines if in_memory & set(pipeline["processors"])]
    files = {name: receiver for name, receiver in agent["receivers"].items() if name.startswith("file_log")}
    assert len(files) == 4
    assert {receiver["storage"] for receiver in files.values()} == {"file_storage"}
    assert {receiver["retry_on_failure"]["max_elapsed_time"] for receiver in files.values()} == {0}


def test_agent_and_gateway_have_the_same_limits_before_each_queue() -> None:
    """Catch a batch of the agent that a record exceeds which the gateway would have cut."""
    files = {name: yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) for name in ("agent", "gateway")}
    limits = [file["processors"]["transform/limits"] for file in files.values()]
    assert limits[0] == limits[1]
    files["agent in kubernetes"] = yaml.safe_load((FOLDER / "agent-kubernetes.yaml").read_text())
    pipelines = [pipeline for file in files.values() for pipeline in file["service"]["pipelines"].values()]
    assert [pipeline for pipeline in pipelines if "transform/limits" not in pipeline["processors"]] == []


def test_limits_of_resources_spans_and_events_run_for_each_of_them() -> None:
    """Catch a group about spans and events, which runs once an event, and never for a span without."""
    limits = yaml.safe_load((FOLDER / "gateway.yaml").read_text())["processors"]["transform/limits"]
    for signal in ("trace", "log", "metric"):
        groups = [str(group["statements"]) for group in limits[f"{signal}_statements"]]
        cut = [set(re.findall(r"(?:truncate_all|limit)\((\w+)\.", group)) for group in groups]
        assert max(map(len, cut)) == 1
        lowest = {"trace": "spanevent", "log": "log", "metric": "exemplar"}[signal]
        assert {"resource", "scope", lowest} <= set().union(*cut)


def test_each_variable_is_in_the_documentation_with_its_default() -> None:
    documented = set(
        re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", (ROOT / "docs" / "collector.md").read_text(), re.MULTILINE)
    )
    for path in FOLDER.glob("*.yaml"):
        text = re.sub(r"^\s*#.*", "", path.read_text(), flags=re.MULTILINE)
        found = {(name, default) for name, default in re.findall(r"\$\{env:(\w+):-([^}]*)\}", text)}
        assert not found - documented, path.name
