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
from reasoner.runs.job_process import write_config
from reasoner.runs.local_run import LocalRun
from reasoner.stack import RunningStack, s3
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.settings import Lake
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.deploy.k8s.api import Object
from tests.deploy.k8s.control_plane import ControlPlane
from tests.deploy.k8s.kubelet import Kubelet
from tests.deploy.k8s.overlay import NAMESPACE, SECRETS, Overlay
from tests.faults.terminal import MINUTE_S, Person
from tests.services.job_runs import PLAN, ClusterJob, job_config, records_in, shop_messages, topics_in
from tests.support.driving import courses
from tests.support.manifests import MANIFESTS, rendered
from tests.support.reshaped import spread
from tests.support.submitted import PARTITIONS, lake_on_s3

pytestmark = pytest.mark.deploy

NAME: Final = "insights"
STATE: Final = f"s3://flink/{NAME}"
TWO_SLOTS: Final = {"taskmanager.numberOfTaskSlots": "2", "taskmanager.memory.task.off-heap.size": "512m"}


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
        wait_until(stable, f"generation {generation} is RUNNING and STABLE; logs in {nodes.folder}", 10 * MINUTE_S, 1.0)
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

    return wait_until(completed, f"the snapshot {name} is COMPLETED", 5 * MINUTE_S, 1.0)


def parts(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Divide the messages into two parts; the incident is open between them."""
    assert PLAN.incident is not None, "the plan has no incident"
    middle_ms = PLAN.incident.start_ms + 60_000
    return (
        [one for one in messages if one.timestamp_ms < middle_ms],
        [one for one in messages if one.timestamp_ms >= middle_ms],
    )


def apply(plane: ControlPlane, folder: Path) -> None:
    """Apply an overlay as docs/kubernetes.md says."""
    done = plane.kubectl("apply", "--server-side", "-k", str(folder))
    assert not done.returncode, done.stderr


def prepare(plane: ControlPlane, person: Person, credentials: Path) -> None:
    """Create the namespace, the Secret, and the topics and tables with the commands of the Job `prepare`."""
    documents = rendered("overlays/dev/prepare")
    plane.apply(yaml.safe_dump(next(one for one in documents if one["kind"] == "Namespace")))
    keys = ("--from-literal=lake-password=unused", f"--from-file=aws-credentials={credentials}")
    made = plane.kubectl("create", "secret", "generic", "metric-reasoner", "-n", NAMESPACE, *keys)
    assert not made.returncode, made.stderr
    pod = next(one for one in documents if one["kind"] == "Job")["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        program, *words = container["args"]
        assert program == "reasoner"
        person.run(*(str(person.config) if word == "/etc/metric-reasoner/job.yaml" else word for word in words))


def refusals(person: Person, url: str) -> dict[str, str]:
    """Return what the commands say that would change the job past the operator."""
    on = ("--target", url)
    return {
        "stop": person.run("stop", NAME, *on, code=1),
        "upgrade": person.run("upgrade", "--config", str(person.config), *on, code=1),
        "rollback": person.run("rollback", NAME, *on, code=1),
    }


def test_kubernetes(
    plane: ControlPlane, nodes: Kubelet, stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]
) -> None:
    settings = stack.settings
    overlay = Overlay.on_loopback(tmp_path / "overlay", STATE, s3.flink_options(settings))
    engine = {"checkpoint_interval_ms": 3_000, "parallelism": 1, "checkpoint_dir": ""}
    config = job_config(NAME, settings.kafka_bootstrap, settings.postgres_jdbc_url, tmp_path, engine=engine)
    lake = lake_on_s3(settings, NAME, settings.postgres_jdbc_url)
    on_s3 = lake["s3"] | {"credentials_file": f"{SECRETS}/aws-credentials"}
    secrets = {"password_file": f"{SECRETS}/lake-password", "s3": on_s3}
    config, in_pods = (config.model_copy(update={"lake": Lake.model_validate(one)}) for one in (lake, lake | secrets))
    person = Person(tmp_path, stack, write_config(config, tmp_path / "job.yaml"))
    job = ClusterJob(config, FlinkRest(overlay.rest_url), tmp_path)
    job.prepare(PARTITIONS)  # topics that keep a recording; the Job finds them
    prepare(plane, person, s3.credentials_file(settings))
    messages = list(spread(shop_messages(), PARTITIONS, 1))

    def send(part: list[Message]) -> None:
        play(part, config.kafka.bootstrap_servers, topics_in(config), PlayOptions(compression="gzip"))
        job.wait_until_read()

    first, second = parts(messages)
    began_s = time.monotonic()
    apply(plane, overlay.write(in_pods, {}))
    job = replace(job, job_id=wait_until_stable(plane, nodes, 1))
    verdict["stable_after_s"] = round(time.monotonic() - began_s)
    send(first)
    assert snapshot(plane).startswith(f"{STATE}/savepoints/")
    for said in refusals(person, overlay.rest_url).values():
        assert f"flinkdeployment insights -n {NAMESPACE}" in said

    began_s = time.monotonic()
    wider = in_pods.model_copy(update={"engine": config.engine.model_copy(update={"parallelism": 2})})
    # As the template: one TaskManager with two slots, because the port of a TaskManager is fixed.
    spec = {"job": {"parallelism": 2}, "taskManager": {"resource": {"cpu": 2, "memory": "4g"}}}
    apply(plane, overlay.write(wider, spec, TWO_SLOTS))
    job = replace(job, job_id=wait_until_stable(plane, nodes, 2))
    verdict["upgraded_after_s"] = round(time.monotonic() - began_s)
    savepoint = deployed(plane)["jobStatus"]["upgradeSavepointPath"]
    restored = job.rest.get(f"/jobs/{job.job_id}/checkpoints")["latest"]["restored"]
    assert restored["is_savepoint"]
    assert restored["external_path"] == savepoint
    assert job.rest.used_slots(job.job_id) == 2, "the new settings hold"
    send(second)
    verdict["restarts"] = job.rest.restarts(job.job_id)
    job.drain()

    records = [from_json(record.value) for record in job.insight_records()]
    found = sorted(records, key=lambda one: (one.insight_id, one.revision))
    expected = courses(out for out in LocalRun(config.graph()).run(messages) if isinstance(out, Insight))
    verdict |= {
        "store": "s3",
        "spans_sent": records_in(messages)["traces"],
        "spans_in_rollups": job.spans_in_rollups(),
        "revisions": len(found),
        "peak_mb": nodes.peak_mb,
        "limit_mb": nodes.limit_mb,
    }
    assert courses(found) == expected
    assert verdict["spans_in_rollups"] == dict.fromkeys(RESOLUTIONS_S, verdict["spans_sent"])
    assert verdict["restarts"] == 0
    assert all(used < nodes.limit_mb[kind] for kind, used in nodes.peak_mb.items())
    plane.admin.delete("FlinkDeployment", NAME)
    wait_until(lambda: not plane.admin.list("Pod"), "the pods of the deleted job are gone", 2 * MINUTE_S)
    verdict["pass"] = True
