"""docker-compose.yml as containers: telemetry in, insights out, and counts that stay exact over a restart of each."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
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
PUBLISHED: Final = ("OTLP_GRPC", "OTLP_HTTP", "GATEWAY", "FLINK", "KAFKA", "POSTGRES", "S3")
JOB_ID: Final = "00000000000000000000000000000001"  # of docker-compose.yml
SEED: Final = 12  # the incident of this seed: a whole service is slow
PARTITIONS: Final = 4  # `reasoner topics create`
SPEED: Final = 8.0  # twelve minutes of telemetry in one and a half: there are spans to read at each restart
DEADLINE_S: Final = 600.0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """Build the images; return the environment of podman, and the seconds that it took."""
    if missing := building.missing_programs():
        pytest.skip(f"not made: {', '.join(missing)}; run `reasoner/stack/setup.sh {' '.join(missing)}`")
    if shutil.disk_usage(ROOT).free < 12 << 30:
        pytest.skip("12 GB of free disk are needed for the images")
    began_s, folder = time.monotonic(), tmp_path_factory.mktemp("images")
    environment = podman_environment(folder)
    building.build(ROOT, environment, folder)
    return environment, round(time.monotonic() - began_s)


@pytest.fixture
def started(
    images: tuple[dict[str, str], int], tmp_path: Path, verdict: dict[str, Any]
) -> Iterator[Callable[[str], Composed]]:
    """Yield a function that starts a profile of a copy of the checkout's files, with secrets of its own.

    All containers are removed at the end.
    """
    environment, verdict["build_s"] = images
    with ExitStack() as ended:

        def start(profile: str) -> Composed:
            composed = Composed(
                tmp_path, f"reasoner{time.time_ns() % 1_000_000}", profile, tmp_path / ".env", environment
            )
            prepare(composed)
            ended.callback(composed.down)
            began_s = time.monotonic()
            composed.up()
            verdict["up_s"] = round(time.monotonic() - began_s)
            return composed

        yield start


def prepare(composed: Composed) -> None:
    """Copy the files of the checkout, make secrets, and name free ports and the images in place of public ones."""
    shutil.copy(ROOT / "docker-compose.yml", composed.checkout)
    shutil.copytree(ROOT / "deploy", composed.checkout / "deploy", ignore=shutil.ignore_patterns("secrets"))
    run(["bash", "deploy/compose/secrets.sh"], composed.environment, folder=composed.checkout)
    variables = {f"{name}_PORT": str(port) for name, port in zip(PUBLISHED, free_ports(len(PUBLISHED)), strict=True)}
    variables |= {name: building.stand_in(target) for name, target in building.STAND_INS.items()}
    composed.variables.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def job_seen_from_here(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> ClusterJob:
    """Return the job of deploy/compose/job.yaml with the published addresses in place of those of the network."""
    ports = composed.values()
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


def sender_to(composed: Composed) -> Sender:
    return Sender(f"http://127.0.0.1:{composed.values()['OTLP_HTTP_PORT']}")


def more_spans(sender: Sender, what: str) -> None:
    """Wait until the agent has taken more spans than now."""
    before = sender.acknowledged_count()
    wait_until(lambda: sender.acknowledged_count() > before + 10, f"the agent takes spans {what}", DEADLINE_S, 0.5)


def wait_until_read(job: ClusterJob) -> None:
    """Wait for a checkpoint behind all spans that are in Kafka now, without a wait for the next one.

    The end of event time does not pass a source that has become idle.
    """
    kafka = job.config.kafka
    ends = end_offsets(kafka.bootstrap_servers, [TOPICS["traces"]])

    def read_with_another_checkpoint() -> bool:
        job.rest.post(f"/jobs/{job.job_id}/checkpoints", {"checkpointType": "CONFIGURED"})
        return has_read(kafka.bootstrap_servers, kafka.group_id, ends)

    wait_until(read_with_another_checkpoint, "a checkpoint behind all spans", DEADLINE_S, 2.0)


def drain(job: ClusterJob, sent: set[bytes]) -> int:
    """Wait until everything is in Kafka and read, and end the job; return how often it went on from a checkpoint."""
    bootstrap = job.config.kafka.bootstrap_servers
    wait_until(lambda: sent <= span_ids_in(bootstrap), "each acknowledged span is in Kafka", DEADLINE_S, 1.0)
    wait_until(partial(job.rest.all_tasks_run, job.job_id), "every task of the job runs", DEADLINE_S, 1.0)
    wait_until_read(job)
    restored = job.rest.get(f"/jobs/{job.job_id}/checkpoints")["counts"]["restored"]
    job.rest.stop(job.job_id, "", drain=True, deadline_s=DEADLINE_S)
    return int(restored)


# A TaskManager of Flink that shows the folders that it finds.
SHOWS_FOLDERS: Final = """
mkdir -p /tmp/rocksdb/of-a-killed-process /tmp/flink/bin
echo 'ls /tmp' > /tmp/flink/bin/taskmanager.sh && chmod +x /tmp/flink/bin/taskmanager.sh
FLINK_HOME=/tmp/flink exec /docker-entrypoint.sh taskmanager
"""


def check_image(composed: Composed) -> None:
    """Check on a root that is read-only: user, no jar twice, no kernel compiled anew, no state of a killed process."""
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
    local = ("--hostname", "localhost", "--env", "FLINK_PROPERTIES=state.backend.rocksdb.localdir: /tmp/rocksdb")
    folders = in_image(*local, "--entrypoint", "bash", building.JOB, "-c", SHOWS_FOLDERS).split()
    assert "flink" in folders
    assert "rocksdb" not in folders


def restart_each(composed: Composed, job: ClusterJob, sender: Sender, play_all: Callable[[], object]) -> dict[str, int]:
    """Restart each service while telemetry is played and sent; return the seconds until spans were taken again."""
    took_s = {}
    with ThreadPoolExecutor(1) as pool:
        played = None
        for name in composed.services:
            if name == "prepare":
                continue
            if name != "kafka" and not played:  # which gives up after ten seconds without a broker, unlike the gateway
                played = pool.submit(play_all)
            if name == "jobmanager":
                first = partial(job.rest.completed_checkpoints, job.job_id)
                wait_until(first, "a checkpoint from which the job can go on", DEADLINE_S, 1.0)
            began_s = time.monotonic()
            composed.restart(name)
            more_spans(sender, f"after the restart of {name}")
            took_s[name] = round(time.monotonic() - began_s)
        assert played
        played.result()
    return took_s


def test_compose(started: Callable[[str], Composed], monkeypatch: pytest.MonkeyPatch, verdict: dict[str, Any]) -> None:
    composed = started("core")
    size = composed.podman("image", "inspect", "--format", "{{.Size}}", building.JOB)
    verdict["job_image_mb"] = round(int(size) / 1e6)
    check_image(composed)
    job = job_seen_from_here(composed, monkeypatch)
    wait_until(partial(job.rest.all_tasks_run, JOB_ID), "every task of the job runs", DEADLINE_S, 1.0)

    # Kafka's timestamps run ahead of the clock, so that live telemetry does not make what is played late.
    plan = demo.DemoPlan(SEED, time.time_ns() // 10_000_000_000 * 10_000, None)
    plan = demo.plan(SEED, True, plan.start_ms + demo.DURATION_MS)
    messages = placed(shop.messages(plan.seed, plan.start_ms, demo.DURATION_MS, plan.incident), PARTITIONS)
    bootstrap = job.config.kafka.bootstrap_servers
    with sender_to(composed) as sender:
        verdict["restart_s"] = restart_each(
            composed, job, sender, partial(play, messages, bootstrap, TOPICS, PlayOptions(speed=SPEED))
        )
    began_s = time.monotonic()
    restored = drain(job, sender.acknowledged())
    verdict["drain_s"] = round(time.monotonic() - began_s)

    rollups, spans = job.spans_in_rollups(), spans_in(bootstrap)
    insights = [record.value for record in job.insight_records()]
    bodies = job.table_bodies()
    found = demo.faults(plan, last_revisions(insights), last_revisions(bodies))
    twice = Counter(dict(record.headers)["ce_id"] for record in job.insight_records())
    verdict |= {
        "times_that_the_job_went_on_from_a_checkpoint": restored,
        "spans_through_the_collector": len(sender.acknowledged()),
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


def test_compose_session(
    started: Callable[[str], Composed], monkeypatch: pytest.MonkeyPatch, verdict: dict[str, Any]
) -> None:
    """Catch a second job, and one that begins without its state: windows that were open would be missing."""
    composed = started("session")
    job = job_seen_from_here(composed, monkeypatch)
    [first] = job.rest.overview()
    job = replace(job, job_id=first.job_id)
    with sender_to(composed) as sender:
        wait_until(partial(job.rest.all_tasks_run, first.job_id), "every task of the job runs", DEADLINE_S, 1.0)
        more_spans(sender, "before the restart")
        wait_until_read(job)
        composed.restart("submit")
        assert [running.job_id for running in job.rest.overview()] == [first.job_id]
        began_s = time.monotonic()
        composed.restart("session")
        assert not job.rest.overview(), "the JobManager has no memory of its jobs"
        composed.restart("submit")
        verdict["job_back_s"] = round(time.monotonic() - began_s)
        [second] = job.rest.overview()
        job = replace(job, job_id=second.job_id)
        more_spans(sender, "after the restart")
    began_s = time.monotonic()
    restored = drain(job, sender.acknowledged())
    verdict["drain_s"] = round(time.monotonic() - began_s)

    rollups, spans = job.spans_in_rollups(), spans_in(job.config.kafka.bootstrap_servers)
    verdict |= {"spans_in_kafka": spans, "spans_in_rollups": rollups}
    assert first.job_id != second.job_id
    assert restored > 0
    assert rollups == dict.fromkeys(RESOLUTIONS_S, spans)
    verdict["pass"] = True
