"""docker-compose.yml as containers: telemetry in, insights out, and counts that stay exact over a restart of each."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from jobs.settings import JobConfig
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.group_offsets import end_offsets, has_read
from reasoner.clients.insight_topic import last_revisions
from reasoner.recordings.player import PlayOptions, play
from reasoner.recordings.reshape import placed
from reasoner.runs import demo
from reasoner.runs.local_run import TOPICS
from reasoner.stack.settings import free_ports
from reasoner.traffic import shop
from reasoner.waiting import wait_until
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.deploy.compose import building
from tests.deploy.compose.containers import Composed, podman_environment, run
from tests.deploy.compose.otlp_sender import Sender, span_ids_in, spans_in
from tests.services.job_runs import ClusterJob

pytestmark = pytest.mark.deploy

ROOT: Final = Path(__file__).parents[3]
PORTS: Final = ("OTLP_GRPC_PORT", "OTLP_HTTP_PORT", "FLINK_PORT", "KAFKA_PORT", "POSTGRES_PORT", "S3_PORT")
JOB_ID: Final = "00000000000000000000000000000001"  # of docker-compose.yml
SEED: Final = 12  # the incident of this seed: a whole service is slow
PARTITIONS: Final = 4  # `reasoner topics create`
SPEED: Final = 3.0  # twelve minutes of telemetry in four: there are spans to read at each restart
DEADLINE_S: Final = 600.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of podman; skip with the reason where a part has not been made."""
    if missing := building.missing_programs():
        pytest.skip(f"not made: {', '.join(missing)}; run `reasoner/stack/setup.sh {' '.join(missing)}`")
    if shutil.disk_usage(ROOT).free < 12 << 30:
        pytest.skip("12 GB of free disk are needed for the images")
    return podman_environment(tmp_path)


@pytest.fixture
def composed(environment: dict[str, str], tmp_path: Path, verdict: dict[str, Any]) -> Iterator[Composed]:
    """Build the images, start a copy of the checkout's files with secrets of its own, and remove all containers."""
    began_s = time.monotonic()
    building.build(ROOT, environment, tmp_path)
    verdict["build_s"] = round(time.monotonic() - began_s)
    checkout = tmp_path / "checkout"
    for name in ("docker-compose.yml", "deploy"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("secrets"))
        else:
            checkout.mkdir()
            shutil.copy(source, checkout)
    run(["bash", "deploy/compose/secrets.sh"], environment, folder=checkout)
    variables = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    variables |= {name: building.stand_in(target) for name, target in building.STAND_INS.items()}
    (checkout / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    found = Composed(checkout, f"reasoner{time.time_ns() % 1_000_000}", "core", checkout / ".env", environment)
    try:
        yield found
    finally:
        found.down()


def job_seen_from_here(composed: Composed, ports: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ClusterJob:
    """Return the job of deploy/compose/job.yaml with the published addresses in place of those of the network."""
    secrets = composed.checkout / "deploy/compose/secrets"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(secrets / "s3_credentials"))
    settings = yaml.safe_load((composed.checkout / "deploy/compose/job.yaml").read_text())
    settings["kafka"]["bootstrap_servers"] = f"127.0.0.1:{ports['KAFKA_PORT']}"
    lake = settings["lake"]
    lake["uri"] = f"jdbc:postgresql://127.0.0.1:{ports['POSTGRES_PORT']}/lake"
    lake["password_file"] = str(secrets / "postgres_password")
    lake["s3"]["endpoint"] = f"http://127.0.0.1:{ports['S3_PORT']}"
    config = JobConfig.model_validate(settings)
    rest = FlinkRest(f"http://127.0.0.1:{ports['FLINK_PORT']}")
    return ClusterJob(config, rest, composed.checkout, job_id=JOB_ID)


def check_image(composed: Composed) -> None:
    """Check on a root that is read-only: the user, that no jar is there twice, and that no kernel is compiled anew."""
    in_image = partial(composed.podman, "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp:exec")
    jars = in_image(building.JOB, "sh", "-c", "id -u; find /opt /usr -name '*.jar' -type f -exec sha256sum {} +")
    user, *hashes = [line.split()[0] for line in jars.splitlines()]
    assert user == "9999"
    assert len(hashes) > 20
    assert max(Counter(hashes).values()) == 1
    traced = ("--env", "NUMBA_DEBUG_CACHE=1", "--volume", f"{ROOT}/deploy/images/job/warm_kernels.py:/warm.py:ro")
    done = in_image(
        *traced, "--entrypoint", "bash", building.JOB, "-c", "/docker-entrypoint.sh python /warm.py || true"
    )
    assert "[cache] data loaded" in done
    assert "[cache] data saved" not in done


def test_compose(composed: Composed, monkeypatch: pytest.MonkeyPatch, verdict: dict[str, Any]) -> None:
    size = composed.podman("image", "inspect", "--format", "{{.Size}}", building.JOB)
    verdict["job_image_mb"] = round(int(size) / 1e6)
    check_image(composed)
    began_s = time.monotonic()
    composed.up()
    verdict["up_s"] = round(time.monotonic() - began_s)
    ports = dict(line.split("=", 1) for line in composed.variables.read_text().split())
    job = job_seen_from_here(composed, ports, monkeypatch)
    wait_until(partial(job.rest.all_tasks_run, JOB_ID), "every task of the job runs", DEADLINE_S, 1.0)
    verdict["running_s"] = round(time.monotonic() - began_s)

    # Kafka's timestamps run ahead of the clock, so that live telemetry does not make what is played late.
    plan = demo.DemoPlan(SEED, time.time_ns() // 10_000_000_000 * 10_000, None)
    plan = demo.plan(SEED, True, plan.start_ms + demo.DURATION_MS)
    messages = placed(shop.messages(plan.seed, plan.start_ms, demo.DURATION_MS, plan.incident), PARTITIONS)
    bootstrap = job.config.kafka.bootstrap_servers
    restarts = [name for name in composed.services if name != "prepare"]
    with Sender(f"http://127.0.0.1:{ports['OTLP_HTTP_PORT']}") as sender, ThreadPoolExecutor(1) as pool:
        played = None
        for name in restarts:
            if name != "kafka" and not played:  # which gives up after ten seconds without a broker, unlike the gateway
                played = pool.submit(play, messages, bootstrap, TOPICS, PlayOptions(speed=SPEED))
            if name == "jobmanager":
                first = partial(job.rest.completed_checkpoints, JOB_ID)
                wait_until(first, "a checkpoint from which the job can go on", DEADLINE_S, 1.0)
            before = sender.acknowledged_count()
            composed.restart(name)
            enough = partial(lambda count: sender.acknowledged_count() > count + 10, before)
            wait_until(enough, f"the agent takes spans after the restart of {name}", DEADLINE_S, 0.5)
        assert played
        played.result()
    sent = sender.acknowledged()
    wait_until(lambda: sent <= span_ids_in(bootstrap), "each acknowledged span is in Kafka", DEADLINE_S, 1.0)
    wait_until(partial(job.rest.all_tasks_run, JOB_ID), "every task of the job runs", DEADLINE_S, 1.0)
    read = partial(has_read, bootstrap, job.config.kafka.group_id, end_offsets(bootstrap, [TOPICS["traces"]]))

    def read_with_another_checkpoint() -> bool:
        job.rest.post(f"/jobs/{JOB_ID}/checkpoints", {"checkpointType": "CONFIGURED"})
        return read()

    # Without a wait for the next one: the end of event time does not pass a source that has become idle.
    wait_until(read_with_another_checkpoint, "a checkpoint behind all spans", DEADLINE_S, 2.0)
    restored = job.rest.get(f"/jobs/{JOB_ID}/checkpoints")["counts"]["restored"]
    job.rest.stop(JOB_ID, "", drain=True, deadline_s=DEADLINE_S)

    rollups, spans = job.spans_in_rollups(), spans_in(bootstrap)
    insights = [record.value for record in job.insight_records()]
    bodies = job.table_bodies()
    found = demo.faults(plan, last_revisions(insights), last_revisions(bodies))
    twice = Counter(dict(record.headers)["ce_id"] for record in job.insight_records())
    verdict |= {
        "restarted_once": restarts,
        "times_that_the_job_went_on_from_a_checkpoint": restored,
        "spans_through_the_collector": len(sent),
        "spans_in_kafka": spans,
        "spans_in_rollups": rollups,
        "insight_revisions": len(insights),
        "insight_revisions_twice": sum(count - 1 for count in twice.values()),
        "planted_incident": demo.describe(plan.incident) if plan.incident else "",
        "wrong_with_the_insights": found,
    }
    assert restored > 0
    assert rollups == dict.fromkeys(RESOLUTIONS_S, spans)
    assert sorted(insights) == bodies
    assert max(twice.values()) == 1
    assert not [line for line in found if line.startswith("not found")], found
    verdict["pass"] = True
