"""Where a job keeps its state and tables: the stack's S3 where it is set up, else a folder that pods see."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reasoner.folders import tools
from reasoner.stack import RunningStack
from reasoner.stack.running import OPTIONAL
from tests.deploy.k8s.overlay import SECRETS

S3: Final = ("s3",) if "s3" in OPTIONAL and (tools() / "s3" / "versitygw").exists() else ()


@dataclass(frozen=True)
class Store:
    """A store. flink: address of checkpoints; options: of Flink; credentials: file of the keys on this machine.

    lake: settings for this machine; in_pods: those that differ in a pod.
    """

    flink: str
    options: Mapping[str, str]
    credentials: Path | None
    lake: Mapping[str, Any]
    in_pods: Mapping[str, Any]

    @classmethod
    def of(cls, stack: RunningStack, folder: Path) -> "Store":
        """Return the store of the stack. folder: where there is no S3."""
        if not S3:
            return cls(f"file://{folder}", {}, None, {"warehouse": f"file://{folder}/warehouse"}, {})
        endpoint, keys = stack.settings.model_dump()["s3_port"], stack.settings.folder / "s3" / "credentials"
        address = {"endpoint": f"http://127.0.0.1:{endpoint}"}
        options = {"s3.endpoint": address["endpoint"], "s3.path.style.access": "true"}
        return cls(
            "s3://flink/insights",
            # This server refuses to delete the markers of folders, with a warning for each file.
            {**options, "s3.directory.marker.retention": "keep"},
            keys,
            {"warehouse": "s3://warehouse/insights", "s3": {**address, "credentials_file": keys}},
            {"s3": {**address, "credentials_file": f"{SECRETS}/aws-credentials"}},
        )
