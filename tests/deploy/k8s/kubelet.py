"""What a kubelet does for pods of Flink: their container runs as a process of this machine, among the files of the pod.

It gives the process the variables of its environment and the token of its account, runs its probes, starts it again and
reports its status. It has no scheduler, no network and no limits: what a pod asks of these is not tried.
"""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import Popen
from threading import Event, Thread
from typing import Any, Final
from urllib.error import URLError

import psutil

from reasoner.stack.component import Component
from reasoner.stack.loopback import answer_of
from reasoner.stack.process import ProcessRecord, start, stop
from reasoner.stack.settings import LOOPBACK
from tests.deploy.k8s.api import KubeApi, Object, Refused
from tests.deploy.k8s.pod_files import ENVIRONMENT, Missing, PodFiles

_EVERY_S: Final = 0.5


@dataclass
class _Running:
    """A pod whose process was started. restarts: how often its process has ended and was started again."""

    pod: Object
    child: Popen[bytes]
    record: ProcessRecord
    component: Component
    restarts: int = 0
    started: bool = False
    reported: Object | None = None


@dataclass
class Kubelet:
    """A kubelet of one namespace. services: names under which pods find each other; variables: of all processes.

    peak_mb: the most memory (PSS) of the processes of a pod, by the label `component`; limit_mb: what its container may
    have. waits_for: what a pod could not be started without; failure: why this kubelet has stopped.
    """

    api: KubeApi
    folder: Path
    services: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    limit_mb: dict[str, float] = field(default_factory=dict)
    waits_for: str = ""
    failure: str = ""
    _pods: dict[str, _Running] = field(default_factory=dict)

    def sync(self) -> None:
        """Start the processes of new pods, end those of pods that are gone, and report the status of all."""
        self.waits_for = ""
        pods = {pod["metadata"]["uid"]: pod for pod in self.api.list("Pod")}
        for uid in [uid for uid in self._pods if uid not in pods]:
            self._end(self._pods.pop(uid))
        for uid, pod in pods.items():
            if uid not in self._pods and pod.get("status", {}).get("phase") in (None, "Pending"):
                try:
                    self._pods[uid] = self._start(pod)
                except Missing as missing:
                    self.waits_for = str(missing)
            elif uid in self._pods:
                self._observe(self._pods[uid])

    def close(self) -> None:
        """End all processes."""
        while self._pods:
            self._end(self._pods.popitem()[1])

    def _start(self, pod: Object) -> _Running:
        component = self._component(pod)
        component.folder.mkdir(parents=True, exist_ok=True)
        component.prepare()
        child, record = start(component, die_with_parent=True)
        return _Running(pod, child, record, component)

    def _end(self, running: _Running) -> None:
        """Ask the process of the container to end, as its pod is deleted; kill it when its time is over."""
        with suppress(psutil.Error):
            inside = psutil.Process(running.child.pid).children()
            for process in inside:
                process.terminate()
            psutil.wait_procs(inside, float(running.pod["spec"]["terminationGracePeriodSeconds"]))
        stop(running.record, deadline_s=5.0)
        running.child.wait(timeout=30.0)

    def _observe(self, running: _Running) -> None:
        """Report what the pod does; start its process again where it has ended and the pod says so."""
        self._measure(running)
        ended = running.child.poll() is not None
        if ended and running.pod["spec"]["restartPolicy"] == "Always":
            stop(running.record, deadline_s=1.0)  # what it left behind
            running.child, running.record = start(running.component, die_with_parent=True)
            running.restarts, running.started, ended = running.restarts + 1, False, False
        status = _status(running, self._is_ready(running) and not ended, ended)
        if status != running.reported:
            try:
                self.api.patch("Pod", running.pod["metadata"]["name"], {"status": status}, status=True)
            except Refused as refused:
                if refused.status != 404:  # it was deleted meanwhile
                    raise
            running.reported = status

    def _is_ready(self, running: _Running) -> bool:
        container = running.pod["spec"]["containers"][0]
        if not running.started:
            running.started = _answers(container, "startupProbe")
        return running.started and _answers(container, "readinessProbe")

    def _measure(self, running: _Running) -> None:
        kind = running.pod["metadata"]["labels"].get("component", "")
        limit = running.pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
        self.limit_mb[kind] = _megabytes(limit)
        used = 0
        try:
            leader = psutil.Process(running.child.pid)
            for process in (leader, *leader.children(recursive=True)):
                used += process.memory_full_info().pss
        except psutil.Error:
            return
        self.peak_mb[kind] = round(max(self.peak_mb.get(kind, 0.0), used / 2**20), 1)

    def _component(self, pod: Object) -> Component:
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        names = f"localhost {name} {' '.join(self.services)}"
        files = PodFiles(self.api, pod, self.folder / name, f"{LOOPBACK} {names}\n")
        # The entry point of the image makes the folder of logs, and starts what is in the arguments.
        command = ["bash", "-c", 'mkdir -p "$FLINK_LOG_DIR" && exec "$0" "$@"', *container["args"]]
        return Component(
            name=name,
            folder=files.folder,
            prepare=files.prepare,
            command=lambda: files.command(command),
            environment=partial(self._environment, pod),
        )

    def _environment(self, pod: Object) -> Mapping[str, str]:
        host, port = self.api.url.removeprefix("https://").split(":")
        fields = {"status.podIP": LOOPBACK, "spec.nodeName": "node-1", "metadata.name": pod["metadata"]["name"]}
        given = {}
        for variable in pod["spec"]["containers"][0].get("env", []):
            path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            given[variable["name"]] = fields[path] if path else variable.get("value", "")
        server = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        return {**ENVIRONMENT, **given, **server, **self.variables}


@contextmanager
def kubelet(made: Kubelet) -> Iterator[Kubelet]:
    """Run a kubelet in a thread; end all its processes afterwards."""
    over = Event()

    def loop() -> None:
        try:
            while not over.wait(_EVERY_S):
                made.sync()
        except (OSError, Refused, KeyError, AssertionError) as error:
            made.failure = f"{type(error).__name__}: {error}"
        finally:
            made.close()

    thread = Thread(target=loop, name="kubelet")
    thread.start()
    try:
        yield made
    finally:
        over.set()
        thread.join()


def _status(running: _Running, ready: bool, ended: bool) -> Object:
    state: Object = {"terminated": {"exitCode": running.child.returncode}} if ended else {"running": {}}
    container = {
        "name": running.pod["spec"]["containers"][0]["name"],
        "image": running.pod["spec"]["containers"][0]["image"],
        "imageID": "",
        "ready": ready,
        "started": running.started,
        "restartCount": running.restarts,
        "state": state,
    }
    # A JobManager counts a TaskManager whose pod has a place.
    conditions = [{"type": "PodScheduled", "status": "True"}]
    conditions += [{"type": name, "status": str(ready)} for name in ("Ready", "ContainersReady")]
    phase = ("Succeeded" if running.child.returncode == 0 else "Failed") if ended else "Running"
    return {"phase": phase, "podIP": LOOPBACK, "conditions": conditions, "containerStatuses": [container]}


def _answers(container: Object, name: str) -> bool:
    """Run a probe of the container once: its port by name, as the pod has it. True where it has no such probe."""
    probe = container.get(name)
    if probe is None:
        return True
    ports = {port.get("name"): port["containerPort"] for port in container["ports"]}
    check: Callable[[], Any]
    if "httpGet" in probe:
        url = f"http://{LOOPBACK}:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        check = partial(answer_of, url, 2.0)
    else:
        check = partial(socket.create_connection, (LOOPBACK, ports[probe["tcpSocket"]["port"]]), 2.0)
    try:
        with check():
            return True
    except (OSError, URLError):
        return False


def _megabytes(quantity: str) -> float:
    """Return a quantity of Kubernetes as MiB: 1280Mi, 4Gi, or bytes."""
    for unit, size in (("Ki", 2**10), ("Mi", 2**20), ("Gi", 2**30), ("M", 10**6), ("G", 10**9)):
        if quantity.endswith(unit):
            return float(quantity.removesuffix(unit)) * size / 2**20
    return float(quantity) / 2**20
