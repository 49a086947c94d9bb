"""A client of a Kubernetes API server, as far as the tests need it."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

import yaml

Object = dict[str, Any]

_MERGE: Final = "application/merge-patch+json"
_PLURAL: Final = {
    "FlinkDeployment": "apis/flink.apache.org/v1beta1/{}/flinkdeployments",
    "FlinkStateSnapshot": "apis/flink.apache.org/v1beta1/{}/flinkstatesnapshots",
    "Pod": "api/v1/{}/pods",
    "ConfigMap": "api/v1/{}/configmaps",
    "Secret": "api/v1/{}/secrets",
    "ServiceAccount": "api/v1/{}/serviceaccounts",
}


class Refused(Exception):
    """What the API server answered instead of doing it. status: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class KubeApi:
    """A namespace of an API server. certificate: file of the authority that signed the server's."""

    url: str
    token: str
    certificate: Path
    namespace: str

    def list(self, kind: str) -> list[Object]:
        """Return all objects of a kind."""
        found: list[Object] = self._call("GET", self._path(kind))["items"]
        return found

    def get(self, kind: str, name: str) -> Object | None:
        """Return an object; None if there is none of this name."""
        try:
            return self._call("GET", self._path(kind, name))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def create(self, kind: str, body: Object) -> Object:
        """Create an object. Raises Refused with the reason of the API server."""
        return self._call("POST", self._path(kind), body)

    def patch(self, kind: str, name: str, body: Mapping[str, Any], *, status: bool = False) -> Object:
        """Merge `body` into an object, or into its status."""
        path = self._path(kind, name) + ("/status" if status else "")
        return self._call("PATCH", path, body, _MERGE)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object; what it owns is deleted by the controllers."""
        self._call("DELETE", self._path(kind, name))

    def token_of(self, account: str) -> str:
        """Return a token of a service account, as a kubelet gets it for a pod."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        made = self._call("POST", self._path("ServiceAccount", account) + "/token", body)
        return str(made["status"]["token"])

    def write_kubeconfig(self, file: Path) -> None:
        """Write the file by which a program finds the server and says that it is this client."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": self.url, "certificate-authority": str(self.certificate)}}
            ],
            "users": [{"name": "test", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": self.namespace}}],
        }
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(config))

    def ready(self) -> bool:
        """Return whether the server serves requests."""
        try:
            with self._opener.open(self._request("GET", "readyz"), timeout=5.0):
                return True
        except OSError:
            return False

    def _path(self, kind: str, name: str = "") -> str:
        path = _PLURAL[kind].format(f"namespaces/{self.namespace}")
        return f"{path}/{name}" if name else path

    def _call(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Object:
        try:
            with self._opener.open(self._request(method, path, body, content), timeout=30.0) as answer:
                found: Object = json.load(answer)
                return found
        except HTTPError as error:
            reason = json.load(error).get("message", "")
            raise Refused(error.code, f"{method} {path}: {reason}") from None

    def _request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Request:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content}
        data = None if body is None else json.dumps(body).encode()
        return Request(f"{self.url}/{path}", data, headers, method=method)

    @cached_property
    def _opener(self) -> OpenerDirector:
        context = ssl.create_default_context(cafile=str(self.certificate))
        return build_opener(ProxyHandler({}), HTTPSHandler(context=context))
