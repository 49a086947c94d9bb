"""The operator runs the job of overlays/dev, takes a snapshot and upgrades it by savepoint; no result differs.

etcd, the API server, the controllers and the operator are the real ones, and so are the JobManager and the TaskManagers
that they start, from the operator's own ConfigMap with the rights of the job's account. There are no containers: a
kubelet of this test runs them as processes.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.runs.local_run import LocalRun
from reasoner.stack import RunningStack
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.deploy.k8s.api import Object
from tests.deploy.k8s.control_plane import ControlPlane
from tests.deploy.k8s.kubelet import Kubelet
from tests.deploy.k8s.overlay import NAMESPACE, SECRETS, Overlay
from tests.services.job_runs import PLAN, ClusterJob, job_config, records_in, shop_messages, topics_in
from tests.support.driving import courses
from tests.support.manifests import MANIFESTS, rendered
from tests.support.reshaped import spread

pytestmark = pytest.mark.deploy

PARTITIONS: Final = 4
MINUTE_S: Final = 60.0
NAME: Final = "insights"


def deployed(plane: ControlPlane) -> Object:
    """Return the status of the FlinkDeployment."""
    found = plane.admin.get("FlinkDeployment", NAME) or {}
    status: Object = found.get("status", {})
    return status


def wait_until_stable(plane: ControlPlane, nodes: Kubelet, generation: int) -> str:
    """Wait until the operator says that this generation is RUNNING and STABLE; return the job's id."""

    def stable() -> bool:
        assert nodes.failure == ""
        status = deployed(plane)
        # "Job Not Found" is an error too, until the program of the job has been run.
        assert status.get("lifecycleState") != "FAILED", status.get("error")
        return (
            status.get("observedGeneration") == generation
            and status["lifecycleState"] == "STABLE"
            and status["jobStatus"]["state"] == "RUNNING"
        )

    try:
        wait_until(stable, f"generation {generation} is RUNNING and STABLE; logs in {nodes.folder}", 5 * MINUTE_S, 1.0)
    except CommandFailed as late:
        pytest.fail(f"{late}: {deployed(plane)} {nodes.waits_for}")
    return str(deployed(plane)["jobStatus"]["jobId"])


def snapshot(plane: ControlPlane) -> str:
    """Take a savepoint with k8s-operator/snapshot.yaml, as a developer does; return its path."""
    made = plane.kubectl("create", "-n", NAMESPACE, "-f", str(MANIFESTS / "snapshot.yaml"), "-o", "name")
    assert not made.returncode, made.stderr
    name = made.stdout.strip().rpartition("/")[2]

    def completed() -> str:
        status = (plane.admin.get("FlinkStateSnapshot", name) or {}).get("status", {})
        assert status.get("state") not in ("FAILED", "ABANDONED"), status
        return str(status["path"]) if status.get("state") == "COMPLETED" else ""

    return wait_until(completed, f"the snapshot {name} is COMPLETED", 3 * MINUTE_S, 1.0)


def parts(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Divide the messages into two parts; the incident is open between them."""
    assert PLAN.incident is not None, "the plan has no incident"
    middle_ms = PLAN.incident.start_ms + 60_000
    return (
        [one for one in messages if one.timestamp_ms < middle_ms],
        [one for one in messages if one.timestamp_ms >= middle_ms],
    )


def test_kubernetes(
    plane: ControlPlane, nodes: Kubelet, stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]
) -> None:
    store = tmp_path / "store"
    overlay = Overlay.on_loopback(tmp_path / "overlay", f"file://{store}")
    config = job_config(
        NAME, stack.settings.kafka_bootstrap, stack.settings.postgres_jdbc_url, store,
        engine={"checkpoint_interval_ms": 3_000, "parallelism": 1, "checkpoint_dir": ""},
    )  # fmt: skip
    file = Path(SECRETS) / "lake-password"
    in_pods = config.model_copy(update={"lake": config.lake.model_copy(update={"password_file": file})})
    job = ClusterJob(config, FlinkRest(overlay.rest_url), store)
    job.prepare(PARTITIONS)
    messages = list(spread(shop_messages(), PARTITIONS, 1))
    first, second = parts(messages)
    secret = ("create", "secret", "generic", "metric-reasoner", "-n", NAMESPACE)
    namespace = next(one for one in rendered("overlays/dev") if one["kind"] == "Namespace")
    plane.apply(yaml.safe_dump(namespace))
    made = plane.kubectl(*secret, "--from-literal=lake-password=unused", "--from-literal=aws-credentials=unused")
    assert not made.returncode, made.stderr

    began_s = time.monotonic()
    applied = plane.kubectl("apply", "--server-side", "-k", str(overlay.write(in_pods, {})))
    assert not applied.returncode, applied.stderr
    job = replace(job, job_id=wait_until_stable(plane, nodes, 1))
    verdict["stable_after_s"] = round(time.monotonic() - began_s)
    play(first, config.kafka.bootstrap_servers, topics_in(config), PlayOptions(compression="gzip"))
    job.wait_until_read()
    verdict["snapshot"] = snapshot(plane)
    assert Path(verdict["snapshot"].removeprefix("file:"), "_metadata").exists()

    began_s = time.monotonic()
    wider = in_pods.model_copy(update={"engine": config.engine.model_copy(update={"parallelism": 2})})
    spec = {"job": {"parallelism": 2}}
    applied = plane.kubectl("apply", "--server-side", "-k", str(overlay.write(wider, spec)))
    assert not applied.returncode, applied.stderr
    job = replace(job, job_id=wait_until_stable(plane, nodes, 2))
    verdict["upgraded_after_s"] = round(time.monotonic() - began_s)
    savepoint = deployed(plane)["jobStatus"]["upgradeSavepointPath"]
    restored = job.rest.get(f"/jobs/{job.job_id}/checkpoints")["latest"]["restored"]
    verdict["restored_from"] = restored["external_path"]
    assert restored["external_path"].removeprefix("file:") == savepoint.removeprefix("file:")
    assert restored["is_savepoint"]
    play(second, config.kafka.bootstrap_servers, topics_in(config), PlayOptions(compression="gzip"))
    job.wait_until_read()
    verdict["restarts"] = job.rest.restarts(job.job_id)
    job.drain()

    found = sorted(
        (from_json(record.value) for record in job.insight_records()), key=lambda one: (one.insight_id, one.revision)
    )
    expected = courses(out for out in LocalRun(config.graph()).run(messages) if isinstance(out, Insight))
    verdict |= {
        "spans_sent": records_in(messages)["traces"],
        "spans_in_rollups": job.spans_in_rollups(),
        "revisions": len(found),
        "peak_mb": nodes.peak_mb,
        "limit_mb": nodes.limit_mb,
    }
    assert courses(found) == expected
    assert verdict["spans_in_rollups"] == dict.fromkeys(RESOLUTIONS_S, verdict["spans_sent"])
    assert verdict["restarts"] == 0
    verdict["pass"] = True
