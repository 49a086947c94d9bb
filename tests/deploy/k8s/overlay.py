"""An overlay on overlays/dev for a machine without a network of pods, as a user's overlay is one for a cluster."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from jobs.settings import JobConfig
from reasoner.runs.job_process import write_config
from reasoner.stack.settings import LOOPBACK, free_ports
from tests.support.manifests import MANIFESTS

NAMESPACE: Final = "metric-reasoner-dev"
NONE: Final[Mapping[str, str]] = MappingProxyType({})
SECRETS: Final = "/etc/metric-reasoner-secrets"


@dataclass(frozen=True)
class Overlay:
    """An overlay in a folder. options: of Flink, which take the place of those of overlays/dev or come on top."""

    folder: Path
    options: Mapping[str, str]

    @classmethod
    def on_loopback(cls, folder: Path, store: str, options: Mapping[str, str]) -> "Overlay":
        """Return an overlay whose processes share the ports of this machine. store: folder or bucket of state.

        options: of Flink for the store.
        """
        rest, rpc, blob, worker = free_ports(4)
        return cls(
            folder,
            {
                # One machine has one set of ports; a pod has its own.
                "rest.port": str(rest),
                "jobmanager.rpc.port": str(rpc),
                "blob.server.port": str(blob),
                "taskmanager.rpc.port": str(worker),
                # Its port is fixed, and it listens on all addresses.
                "metrics.reporters": "none",
                # The store of this machine.
                "execution.checkpointing.dir": f"{store}/checkpoints",
                "execution.checkpointing.savepoint-dir": f"{store}/savepoints",
                "high-availability.storageDir": f"{store}/ha",
                **options,
                # Counters in REST are at most 2 s old, not 10 s: the test waits for them.
                "metrics.fetcher.update-interval": "2 s",
                # Two cores are shared with Kafka and the control plane: 10 s is too short while all start.
                "pekko.ask.timeout": "60 s",
                "heartbeat.timeout": "120 s",
            },
        )

    @property
    def rest_url(self) -> str:
        return f"http://{LOOPBACK}:{self.options['rest.port']}"

    def write(
        self, config: JobConfig, spec: Mapping[str, Any], options: Mapping[str, str] = MappingProxyType({})
    ) -> Path:
        """Write the overlay with the settings of the job, changes of the FlinkDeployment and further options of Flink.

        Return its folder, for `kubectl apply -k`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_config(config, self.folder / "job.yaml")
        base = os.path.relpath(MANIFESTS / "overlays/dev", self.folder.resolve())
        patch = {
            "apiVersion": "flink.apache.org/v1beta1",
            "kind": "FlinkDeployment",
            "metadata": {"name": "insights"},
            "spec": {**spec, "flinkConfiguration": {**self.options, **options}},
        }
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [base],
            "configMapGenerator": [{"name": "insights-config", "behavior": "replace", "files": ["job.yaml"]}],
            "patches": [{"patch": yaml.safe_dump(patch)}],
        }
        (self.folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return self.folder
