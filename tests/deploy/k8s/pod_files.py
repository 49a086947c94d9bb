"""The file system of a pod on this machine, made by bubblewrap: the image, the pod's volumes, a read-only root.

The image of the job is not built here. What it has in /opt is mounted from FLINK_HOME, from the environment of Python
and from the checkout; the rest of its root is that of this machine.
"""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

from reasoner.stack.environment import flink_home, java_home
from tests.deploy.k8s.api import KubeApi, Object
from tests.tidy.rules import PACKAGES, ROOT

TOKEN: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
# As deploy/images/job/Dockerfile sets them.
ENVIRONMENT: Final = {
    "FLINK_HOME": "/opt/flink",
    "HOME": "/tmp",
    "JAVA_HOME": "/opt/java",
    "MALLOC_ARENA_MAX": "2",
    "NUMBA_CACHE_DIR": "/tmp/kernels",
    "FLINK_LOG_DIR": "/tmp/log",
    "PATH": "/opt/venv/bin:/opt/flink/bin:/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
}
# A pod has an address of its own, on which its processes listen; here that would be all addresses of this machine. The
# operator removes these options from the configuration that it is given.
_ON_LOOPBACK: Final = """
rest.bind-address: 127.0.0.1
jobmanager.bind-host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
"""
_MADE_HERE: Final = ("tmp", "opt", "etc", "proc", "dev", "run", "sys", "lost+found")


class Missing(Exception):
    """A ConfigMap or a Secret that a pod mounts is not there; Flink makes some of its own after the pod."""


def bubblewrap() -> str:
    """Return the program; skip with the reason where it is missing or this user may make no namespace."""
    found = shutil.which("bwrap")
    if found is None:
        pytest.skip("bubblewrap is missing, which gives a process the files of a pod: apt-get install bubblewrap")
    tried = subprocess.run(
        [found, "--unshare-user", "--ro-bind", "/", "/", "true"], capture_output=True, check=False, timeout=60
    )
    if tried.returncode:
        pytest.skip(f"bubblewrap may not make namespaces on this machine: {tried.stderr.decode().strip()}")
    return found


@dataclass(frozen=True)
class PodFiles:
    """The files of one pod. folder: of its volumes on this machine; hosts: what its /etc/hosts says."""

    api: KubeApi
    pod: Object
    folder: Path
    hosts: str

    def prepare(self) -> None:
        """Write the volumes. Raises Missing where a ConfigMap or a Secret is not there yet."""
        for volume in self.pod["spec"]["volumes"]:
            place = self.folder / volume["name"]
            place.mkdir(parents=True, exist_ok=True)
            for name, content in self._content(volume).items():
                own_address = _ON_LOOPBACK if name == "config.yaml" else ""
                (place / name).write_bytes(content + own_address.encode())
        (self.folder / "hosts").write_text(self.hosts)
        (self.folder / "passwd").write_text("flink:x:9999:9999::/opt/flink:/bin/sh\n")
        site = self.folder / "site-packages"
        site.mkdir(exist_ok=True)
        packages = Path(os.__file__).parent / "site-packages"
        installed = Path(sys.prefix, "lib", packages.parent.name, "site-packages")
        for entry in (*installed.iterdir(), *(ROOT / package for package in PACKAGES)):
            if not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the command that runs `arguments` among these files, as the user that the pod names."""
        context = self.pod["spec"]["securityContext"]
        user = ("--unshare-user", "--uid", str(context["runAsUser"]), "--gid", str(context["runAsGroup"]))
        name = self.pod["metadata"]["name"]
        return [
            *(bubblewrap(), "--die-with-parent", "--unshare-uts", "--hostname", name, *user),
            *(option for options in (self._root(), self._image(), self._mounts()) for option in options),
            *(*self._root_rights, "--chdir", "/opt/flink", *arguments),
        ]

    @cached_property
    def _container(self) -> Object:
        found: Object = self.pod["spec"]["containers"][0]
        return found

    @property
    def _root_rights(self) -> tuple[str, ...]:
        read_only = self._container["securityContext"]["readOnlyRootFilesystem"]
        return ("--remount-ro", "/") if read_only else ()

    def _content(self, volume: Object) -> Mapping[str, bytes]:
        if "configMap" in volume:
            found = self._needed("ConfigMap", volume["configMap"]["name"])
            items = volume["configMap"].get("items") or [{"key": key, "path": key} for key in found]
            return {item["path"]: found[item["key"]].encode() for item in items}
        if "secret" in volume:
            found = self._needed("Secret", volume["secret"]["secretName"])
            return {name: base64.b64decode(value) for name, value in found.items()}
        if "projected" in volume:
            account = self.pod["spec"]["serviceAccountName"]
            return {
                "token": self.api.token_of(account).encode(),
                "ca.crt": self.api.certificate.read_bytes(),
                "namespace": self.api.namespace.encode(),
            }
        assert "emptyDir" in volume, f"this kubelet has no volume like {volume}"
        return {}

    def _needed(self, kind: str, name: str) -> Mapping[str, str]:
        found = self.api.get(kind, name)
        if found is None:
            message = f"there is no {kind} {name}, which the pod {self.pod['metadata']['name']} mounts"
            raise Missing(message)
        data: Mapping[str, str] = found["data"]
        return data

    def _root(self) -> Iterator[str]:
        for entry in sorted(Path("/").iterdir()):
            if entry.name in _MADE_HERE:
                continue
            if entry.is_symlink():
                yield from ("--symlink", str(entry.readlink()), str(entry))
            else:
                yield from ("--ro-bind", str(entry), str(entry))
        yield from ("--proc", "/proc", "--dev", "/dev", "--dir", "/run", "--ro-bind", "/etc", "/.etc", "--dir", "/etc")
        for entry in sorted(Path("/etc").iterdir()):
            if entry.name not in ("hosts", "passwd"):
                yield from ("--symlink", f"/.etc/{entry.name}", str(entry))
        for name in ("hosts", "passwd"):
            yield from ("--ro-bind", str(self.folder / name), f"/etc/{name}")

    def _image(self) -> Iterator[str]:
        # Each folder by itself, so that the pod's volumes find their places among them.
        for entry in sorted(flink_home().iterdir()):
            yield from ("--ro-bind", str(entry), f"/opt/flink/{entry.name}")
        yield from ("--ro-bind", str(java_home().resolve()), "/opt/java")
        for name in ("bin", "pyvenv.cfg"):
            yield from ("--ro-bind", str(Path(sys.prefix) / name), f"/opt/venv/{name}")
        for version in {"python3.11", f"python{sys.version_info.major}.{sys.version_info.minor}"}:
            yield from ("--ro-bind", str(self.folder / "site-packages"), f"/opt/venv/lib/{version}/site-packages")

    def _mounts(self) -> Iterator[str]:
        for mount in sorted(self._container["volumeMounts"], key=lambda mount: len(mount["mountPath"])):
            place = mount["mountPath"].replace("/var/run/", "/run/")  # a link
            yield from ("--ro-bind" if mount.get("readOnly") else "--bind", str(self.folder / mount["name"]), place)
        # The checkout and Python, which may be in /tmp or /opt: the pod has its own.
        for path in (str(ROOT), sys.base_prefix):
            yield from ("--ro-bind", path, path)
