"""Manifests of k8s-operator: rendered by kustomize, and what refuses them without a cluster."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from jobs.graph import JOBS
from reasoner.folders import tools
from reasoner.stack.environment import java_home
from tests.tidy.rules import ROOT

MANIFESTS: Final = ROOT / "k8s-operator"
OVERLAYS: Final = ("overlays/dev", "overlays/prod")
PREPARE: Final = tuple(f"{overlay}/prepare" for overlay in OVERLAYS)
# All that a person applies; the other folders are parts of these.
FOLDERS: Final = (
    *(*OVERLAYS, *PREPARE, *(f"jobs/{job}" for job in JOBS), "session"),
    *("collector", "collector/monitoring", "collector-observability"),
)
KUBERNETES: Final = "1.36.0"  # as the API server of make test-k8s
# The operator's log, with colours, is between the lines.
_VALIDATED: Final = re.compile(r"^(?:\x1b\[m)?(/.+)\t(Flink\w+/\S+)\t(.*)$", re.MULTILINE)

Document = dict[str, Any]


def kubectl() -> str:
    """Return the kubectl of the parts `kubernetes` or `operator`, or that of the machine; skip with the reason."""
    made = [tools() / part / "kubectl" for part in ("kubernetes", "kubectl")]
    found = next((str(path) for path in made if path.exists()), shutil.which("kubectl"))
    if found is None:
        pytest.skip("there is no kubectl to render manifests: run `make operator`, or off x86-64 `make kubernetes`")
    return found


def operator_parts() -> Path:
    """Return the folder of the part `operator`; skip with the reason where it is not there."""
    folder = tools() / "operator"
    if not (folder / "schemas").exists():
        pytest.skip("what checks manifests is not there: run `make operator` (120 MB, half a minute)")
    return folder


@cache
def rendered(folder: str) -> list[Document]:
    """Return the documents of a folder of k8s-operator, as `kubectl apply -k` sends them."""
    command = [kubectl(), "kustomize", str(MANIFESTS / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert not done.returncode, f"{' '.join(command)}: {done.stderr}"
    return list(yaml.safe_load_all(done.stdout))


def name_of(document: Mapping[str, Any]) -> str:
    """Return kind/name."""
    return f"{document['kind']}/{document['metadata']['name']}"


# --- schemas ----------------------------------------------------------------------------------------------------------


def schema_fault(document: Document) -> str:
    """Return where the document differs from the schema of its kind, "" if it does not.

    Names that the schema does not know are faults. Raises KeyError for a kind without a schema.
    """
    group, _, version = document["apiVersion"].rpartition("/")
    custom = _custom_schemas().get((group, document["kind"]))
    validator = custom or _core_validator(document["kind"], group, version)
    faults = sorted(validator.iter_errors(document), key=lambda fault: len(fault.absolute_path))
    return "; ".join(f"{fault.json_path}: {fault.message}" for fault in faults[:3])


@cache
def _custom_schemas() -> dict[tuple[str, str], Draft202012Validator]:
    found = {}
    for file in sorted((operator_parts() / "crds").iterdir()):
        definition = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["spec"]
        schema = _strict(definition["versions"][0]["schema"]["openAPIV3Schema"])
        schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {}}
        found[definition["group"], definition["names"]["kind"]] = Draft202012Validator(schema)
    return found


def _strict(schema: Any) -> Any:
    """Return a schema of a custom resource as JSON Schema that refuses unknown names, as the API server does."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(part) for key, part in schema.items() if not key.startswith("x-kubernetes-")}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@cache
def _core_validator(kind: str, group: str, version: str) -> Draft202012Validator:
    folder = operator_parts() / f"schemas/kubernetes_validate/kubernetes-json-schema/v{KUBERNETES}-local-strict"
    short = f"{group.partition('.')[0]}-{version}" if group else version
    file = folder / f"{kind.lower()}-{short}.json"
    if not file.exists():
        message = f"no schema for {kind} of {group or 'core'}/{version}"
        raise KeyError(message)
    return Draft202012Validator(json.loads(file.read_text()), registry=_definitions(folder))


@cache
def _definitions(folder: Path) -> Registry[Any]:
    definitions = json.loads((folder / "_definitions.json").read_text())
    return Resource.from_contents(definitions) @ Registry()


def is_checked(document: Mapping[str, Any]) -> bool:
    """Return whether there is a schema for the document: those of the Prometheus Operator are fetched with Go."""
    group, _, _ = document["apiVersion"].rpartition("/")
    return group != "monitoring.coreos.com" or (group, document["kind"]) in _custom_schemas()


# --- the operator -----------------------------------------------------------------------------------------------------


def operator_faults(folder: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return for each file NAME.yaml of the folder its resources of Flink, as kind/name, and why the operator refuses
    each of them; "" if it does not.
    """
    jars, classes = tools() / "jars" / "operator", operator_parts() / "classes"
    path = [str(classes), *map(str, jars.glob("flink-kubernetes-operator-1.*.jar")), f"{jars}/*"]
    command = [str(java_home() / "bin/java"), "-XX:TieredStopAtLevel=1", "-cp", ":".join(path), "Validate"]
    files = [str(folder / f"{name}.yaml") for name in names]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, dict[str, str]] = {Path(file).stem: {} for file in files}
    for file, name, fault in _VALIDATED.findall(done.stdout):
        found[Path(file).stem][name] = fault
    return found
