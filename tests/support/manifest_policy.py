"""Rules for manifests that no schema knows: who runs a pod, what it may do, and no secret in clear text."""

import re
from collections.abc import Iterator
from typing import Final

from tests.support.manifests import Document

_NAME: Final = r"(password|passwd|secret[-_.]?(?:access[-_.]?)?key|access[-_.]?key|token)"
_CREDENTIAL: Final = re.compile(rf"{_NAME}$", re.IGNORECASE)
# A value, and not the name of a variable or of a file (`${env:TOKEN:-/…}`, `password: ${file:…}`).
_CREDENTIAL_LINE: Final = re.compile(rf"(?im)^[^#\n]*{_NAME}\"?\s*[:=]\s*[^\s{{\"'$-]")


def policy_faults(document: Document) -> list[str]:
    """Return what of the document this project does not allow; each begins with the name of the rule."""
    faults = [*_secret_faults(document)]
    for place, pod in _pods(document):
        faults += [f"{rule}: {place}{detail}" for rule, detail in _pod_faults(pod)]
    if document["kind"] == "FlinkDeployment":
        for part in ("jobManager", "taskManager"):
            given = document["spec"].get(part, {}).get("resource", {})
            faults += [f"limits: {part} has no {name}" for name in ("cpu", "memory") if not given.get(name)]
    return faults


def _pods(document: Document) -> Iterator[tuple[str, Document]]:
    spec = document.get("spec", {})
    if document["kind"] == "FlinkDeployment":
        yield "podTemplate", spec.get("podTemplate", {}).get("spec", {})
    elif document["kind"] in ("Deployment", "DaemonSet", "StatefulSet", "Job"):
        yield "template", spec["template"]["spec"]


def _pod_faults(pod: Document) -> Iterator[tuple[str, str]]:
    shared = pod.get("securityContext", {})
    if pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}:
        yield "privileged", " uses a namespace of the host"
    for volume in pod.get("volumes", []):
        if "hostPath" in volume:
            yield "privileged", f" mounts {volume['hostPath']['path']} of the host"
    containers = [*pod.get("initContainers", []), *pod.get("containers", [])]
    if not containers:
        yield "root", " has no container"
    for container in containers:
        own, name = container.get("securityContext", {}), f" {container['name']}"
        both = {**shared, **own}
        if not both.get("runAsNonRoot") or both.get("runAsUser") == 0:
            yield "root", f"{name} may run as root"
        if (
            own.get("privileged")
            or own.get("allowPrivilegeEscalation") is not False
            or own.get("capabilities") != {"drop": ["ALL"]}
        ):
            yield "privileged", f"{name} is privileged, or keeps or can gain capabilities"
        if not own.get("readOnlyRootFilesystem"):
            yield "writable-root", f"{name} can write to its image"
        if both.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield "privileged", f"{name} may make any system call"
        resources = container.get("resources", {})
        if container["name"] != "flink-main-container" and not (
            resources.get("limits", {}).get("memory") and resources.get("requests", {}).get("cpu")
        ):
            yield "limits", f"{name} has no limit of memory or no request of CPU"


def _secret_faults(document: Document) -> Iterator[str]:
    if document["kind"] == "Secret":
        yield "secret: Secrets are made outside of these files"
    if document["kind"] == "ConfigMap":
        for name, text in document.get("data", {}).items():
            if found := _CREDENTIAL_LINE.search(text):
                yield f"secret: {name} has {found.group(1)} in clear text"
    for key, value in document.get("spec", {}).get("flinkConfiguration", {}).items():
        if _CREDENTIAL.search(key) or _CREDENTIAL_LINE.search(str(value)):
            yield f"secret: flinkConfiguration has {key} in clear text"
    for _, pod in _pods(document):
        for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
            for variable in container.get("env", []):
                if _CREDENTIAL.search(variable["name"]) and variable.get("value"):
                    yield f"secret: {container['name']} has {variable['name']} in clear text"
