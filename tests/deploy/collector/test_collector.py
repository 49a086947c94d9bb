"""Services with the OpenTelemetry SDK and log files -> agent -> HAProxy -> two gateways -> Kafka -> job -> insight.

A gateway and the agent are killed and the broker is restarted meanwhile. Each id that was acknowledged to a service, or
that is in a log file, must be in Kafka, and the tables must have as many spans and severe lines as Kafka.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.request import Request

import pytest

from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.group_offsets import end_offsets
from reasoner.stack import RunningStack, StackSettings, running
from reasoner.stack.kafka import kafka as broker
from reasoner.stack.loopback import answer_of
from reasoner.stack.settings import is_port_free
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.deploy.collector.arrivals import Arrived, acknowledged, arrived, spans_in, written
from tests.deploy.collector.fleet import GATEWAYS, SAMPLED_PERCENT, SLOW_MS, Fleet
from tests.services.job_runs import ClusterJob, job_config, topics_in
from tests.support.components import skip_unless_set_up, skip_without_postgres
from tests.support.parts import HAPROXY, OTELCOL, SHOP_PYTHON, skip_unless_made
from tests.tidy.rules import ROOT

pytestmark = pytest.mark.deploy

SPANS_PER_SECOND: Final = 100
WAITING_BYTES: Final = 50_000  # of a queue when its program is killed: about two seconds of telemetry
WARM_S: Final = 90.0  # six windows of 10 s until a latency is compared, and the watermark behind them
INSIGHT_DEADLINE_S: Final = 240.0
DECIDED_AFTER_S: Final = 20.0  # the 10 s of fleet.py, and the batches after them


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    """Start Kafka, PostgreSQL and Flink."""
    skip_unless_set_up()
    skip_without_postgres()
    skip_unless_made(OTELCOL, HAPROXY, SHOP_PYTHON)
    settings = StackSettings(folder=tmp_path / "stack").with_auto_ports()
    with running(settings, ["kafka", "postgres", "flink"]) as started:
        yield started


def test_collector(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    job = started_job(stack, tmp_path)
    topics = topics_in(job.config)
    fleet = Fleet(stack, {f"TOPIC_{signal.upper()}": topic for signal, topic in topics.items()})
    fleet.start()
    with shop(stack.settings, tmp_path) as faults:
        wait_until(partial(flows, job), "telemetry reaches each topic", 90.0, 1.0)
        opened_s = time.time()
        verdict["seconds_until_telemetry_flows_again"] = outages(fleet, job)
        wait_until(lambda: time.time() > opened_s + WARM_S, "there is a usual latency", WARM_S + 5)
        fault_ns = time.time_ns()
        for fault in ("F2", "F5"):
            switch(faults, fault)
        verdict["insights"] = wait_until(partial(about_faults, job), "both faults are found", INSIGHT_DEADLINE_S, 2.0)
    closed_s = time.time()
    sent, given_up = acknowledged(tmp_path / "ids")
    in_files = written(stack.settings.folder / "collector" / "logs")
    wait_until(lambda: not (sent | set(in_files)) - set(kafka(job).ids), "each id is in Kafka", 120.0, 5.0)
    # The host's metrics go on for ever.
    wait_until(unchanged(lambda: kafka(job).spans), "no span comes in three seconds", 60.0, 3.0)
    found = kafka(job)
    wait_until(lambda: time.time() > closed_s + DECIDED_AFTER_S, "the last traces are decided", DECIDED_AFTER_S + 5)
    verdict |= counted(found, sent, in_files, given_up)
    verdict |= sampled(found, spans_in(fleet.recording), fault_ns)
    verdict |= in_tables(job, found)
    demand(verdict)
    verdict["pass"] = True


def started_job(stack: RunningStack, folder: Path) -> ClusterJob:
    urls = (stack.settings.kafka_bootstrap, stack.settings.postgres_jdbc_url)
    config = job_config("collector", *urls, folder, detection={"patterns_warm_minutes": 1})
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), folder)
    job.prepare(2)
    return job.started()


@contextmanager
def shop(settings: StackSettings, folder: Path) -> Iterator[str]:
    """Run the services of examples/own_services; yield the address of their faults."""
    port = next(port for port in range(24_000, 32_000, 10) if all(is_port_free(port + offset) for offset in range(5)))
    given = {
        "--otlp": f"http://127.0.0.1:{settings.collector_http_port}",
        "--kafka": settings.kafka_bootstrap,
        "--port": port,
        "--spans-per-second": SPANS_PER_SECOND,
        "--logs": settings.folder / "collector" / "logs",
        "--acknowledged": folder / "ids",
    }
    options = [str(word) for pair in given.items() for word in pair]
    with (folder / "shop.log").open("w") as output:
        words = [str(SHOP_PYTHON), "-m", "examples.own_services.shop", *options]
        process = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: not is_port_free(port), f"the shop is open; see {folder / 'shop.log'}", 180.0)
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None, (folder / "shop.log").read_text()[-2_000:]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def switch(address: str, fault: str) -> None:
    answer_of(Request(f"{address}/faults/{fault}/on", method="POST"), 60.0).close()


def ends(job: ClusterJob) -> dict[str, int]:
    """Return the messages of each topic."""
    found = end_offsets(job.config.kafka.bootstrap_servers, topics_in(job.config).values())
    counts = dict.fromkeys(topics_in(job.config).values(), 0)
    for part, end in found.items():
        counts[part.topic] += end
    return counts


def flows(job: ClusterJob, before: dict[str, int] | None = None) -> bool:
    """Return whether each topic has more messages than before."""
    return all(end > (before or {}).get(topic, 0) for topic, end in ends(job).items())


def unchanged(count: Callable[[], int]) -> Callable[[], bool]:
    """Return a condition that holds when the count is that of its last call."""
    counts: list[int | None] = [None]

    def holds() -> bool:
        counts.append(count())
        return counts[-1] == counts[-2]

    return holds


def outages(fleet: Fleet, job: ClusterJob) -> dict[str, float]:
    """Break each part while what it has acknowledged lies in its queue; return after how long telemetry flows again."""
    return {
        "a gateway killed": lasting(job, lambda: fleet.kill(fleet.used_gateway())),
        "the agent killed while no gateway answers": lasting(job, partial(without_gateways, fleet)),
        "one gateway stopped and one killed while the broker is down": lasting(job, partial(without_broker, fleet)),
    }


def lasting(job: ClusterJob, broken: Callable[[], None]) -> float:
    """Break something; return the seconds until each topic gets messages again."""
    before, began_s = ends(job), time.monotonic()
    broken()
    wait_until(partial(flows, job, before), "telemetry after an outage", 120.0, 0.5)
    return round(time.monotonic() - began_s, 1)


def without_gateways(fleet: Fleet) -> None:
    fleet.start(*GATEWAYS)  # the one that was killed before has a queue that comes after all
    fleet.kill(*GATEWAYS)
    wait_until(lambda: fleet.waiting_bytes("collector-agent") > WAITING_BYTES, "the agent has a queue", 60.0)
    fleet.kill("collector-agent")
    fleet.start("collector-agent", *GATEWAYS)


def without_broker(fleet: Fleet) -> None:
    used = fleet.used_gateway()
    (other,) = {*GATEWAYS} - {used}
    fleet.stack.supervisor.down(["kafka"])
    wait_until(lambda: fleet.waiting_bytes(used) > WAITING_BYTES, "a gateway has a queue", 60.0)
    fleet.stack.supervisor.down([used])
    wait_until(lambda: fleet.waiting_bytes(other) > WAITING_BYTES, "the other one has a queue", 60.0)
    fleet.kill(other)
    fleet.start(*GATEWAYS)
    fleet.stack.supervisor.up([broker(fleet.stack.settings)])


def kafka(job: ClusterJob) -> Arrived:
    return arrived(job.config.kafka.bootstrap_servers, topics_in(job.config).values())


def about_faults(job: ClusterJob) -> list[str]:
    """Return the titles of the insights about both faults; none while one of them is not found."""
    insights: list[Insight] = [from_json(record.value) for record in job.insight_records()]
    orders = {one.title for one in insights if one.service == "orders" and "VoucherLedgerMismatch" in one.title}
    pricing = {one.title for one in insights if one.service == "pricing" and one.kind == "latency_spike"}
    return sorted(orders | pricing) if orders and pricing else []


def counted(found: Arrived, sent: set[str], in_files: dict[str, str], given_up: set[str]) -> dict[str, Any]:
    """Return how much was sent, and how often it is in Kafka."""
    kinds, promised = ("span", "log", "point"), sent | set(in_files)
    return {
        "acknowledged": {kind: sum(name.startswith(kind) for name in sent) for kind in kinds},
        "lines_in_files": len(in_files),
        "acknowledged_or_in_a_file_and_not_in_kafka": len(promised - set(found.ids)),
        "duplicates_in_kafka": {
            kind: sum(found.ids[name] - 1 for name in promised if name.startswith(kind)) for kind in kinds
        },
        "given_up_by_the_sdk": len(given_up),
        "given_up_and_in_kafka": len(given_up & set(found.ids)),
        "lines_of_files_with_another_trace_id": len(in_files.items() - found.of_files.items()),
        "stack_traces_of_files": found.stack_traces,
        "largest_message_bytes": found.largest_message_bytes,
    }


def sampled(found: Arrived, tempo: dict[str, set[str]], since_ns: int) -> dict[str, Any]:
    """Compare the traces since the last outage with those in the place of Tempo."""
    wanted: set[str] = set()
    rest: set[str] = set()
    for name, trace in found.traces.items():
        if trace.start_ns > since_ns:
            (wanted if trace.failed or trace.duration_ms >= SLOW_MS + 1 else rest).add(name)
    return {
        "traces_failed_or_slow": len(wanted),
        "of_them_not_in_tempo": len(wanted - set(tempo)),
        "other_traces": len(rest),
        "of_them_in_tempo": len(rest & set(tempo)),
        "spans_in_tempo_and_not_in_kafka": len(
            {span for spans in tempo.values() for span in spans}
            - {span for trace in found.traces.values() for span in trace.spans}
        ),
    }


def in_tables(job: ClusterJob, found: Arrived) -> dict[str, Any]:
    """End the job with all windows final, and return the counts of Kafka and of the tables."""
    job.wait_until_read()
    restarts = job.rest.restarts(job.job_id)
    job.drain()
    return {
        "spans_in_kafka": found.spans,
        "spans_in_rollups": job.spans_in_rollups(),
        "severe_lines_in_kafka": found.severe,
        "severe_lines_in_tables": severe_lines(job),
        "dead_letters": len(job.dead_letters()),
        "restarts": restarts,
    }


def severe_lines(job: ClusterJob) -> dict[int, int]:
    """Return the lines of WARN and up in the tables by resolution; exceptions of spans are rows of their own."""
    names = ("resolution_s", "count")
    rows = lake.read(job.config.lake, "error_patterns", row_filter="source = 'logs'", selected_fields=names)
    sums = rows.group_by("resolution_s").aggregate([("count", "sum")]).to_pylist()
    return {row["resolution_s"]: row["count_sum"] for row in sums}


def demand(figures: dict[str, Any]) -> None:
    """Assert what must hold."""
    assert all(figures["acknowledged"].values())
    assert figures["lines_in_files"]
    assert figures["acknowledged_or_in_a_file_and_not_in_kafka"] == 0
    assert figures["lines_of_files_with_another_trace_id"] == 0
    assert figures["stack_traces_of_files"] > 0
    assert figures["largest_message_bytes"] < 1_000_000
    assert figures["traces_failed_or_slow"] > 0
    assert figures["of_them_not_in_tempo"] == 0
    assert figures["of_them_in_tempo"] <= 3 * SAMPLED_PERCENT / 100 * figures["other_traces"] + 5
    assert figures["spans_in_tempo_and_not_in_kafka"] == 0
    assert figures["spans_in_rollups"] == dict.fromkeys(RESOLUTIONS_S, figures["spans_in_kafka"])
    assert figures["severe_lines_in_tables"] == dict.fromkeys((10, 60), figures["severe_lines_in_kafka"])
    assert (figures["dead_letters"], figures["restarts"]) == (0, 0)
