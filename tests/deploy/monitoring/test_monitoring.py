"""Prometheus beside the real job: each panel of the boards has data, and the alerts about an injected fault fire."""

import json
import math
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final, get_args

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.recordings.message import Message
from reasoner.recordings.player import PlayOptions, play
from reasoner.stack.loopback import answer_of
from reasoner.stack.settings import free_ports
from reasoner.waiting import wait_until
from state_schemas.contracts.counters import MetricName
from tests.deploy.monitoring import collector
from tests.deploy.monitoring.monitored import MonitoredStack, monitored_stack
from tests.services.garbage import all_garbage, send_garbage
from tests.services.job_runs import ClusterJob, database, job_config, shop_messages, topics_in
from tests.support.reshaped import make_late, spread
from tests.unit.deploy.monitoring.offline import alerts, metrics_in, panels

pytestmark = pytest.mark.deploy

NAME: Final = "watched"
PARTITIONS: Final = 4
SPEED: Final = 0.25  # the last three minutes of the shop take twelve
OPERATOR: Final = "flink_taskmanager_job_task_operator_"
ON_FAULTS: Final = frozenset({"MetricReasonerMessagesRejected", "MetricReasonerCollectorLoses"})
# Alerts about what the test does, whose `for` may pass before its end.
MAY_FIRE: Final = frozenset(
    {
        "MetricReasonerNamesOverflowed",  # operations_max is 1
        "MetricReasonerRecordsLate",  # a hundredth of the spans
        "MetricReasonerRecordsRejected",  # some of the garbage is one record of a message
        "MetricReasonerRecordsBehind",  # most messages are read as fast as they can be
        "MetricReasonerCollectorRefuses",
        "MetricReasonerCollectorQueueFills",
        "MetricReasonerCollectorQueueFull",
    }
)


def test_monitoring(tmp_path: Path, verdict: dict[str, Any]) -> None:
    with monitored_stack(tmp_path / "stack") as stack, probed(stack) as (reached, away):
        job, messages = started_job(stack, tmp_path), telemetry()
        most = len(messages) * 3 // 4
        play(messages[:most], stack.settings.kafka_bootstrap, topics_in(job.config), PlayOptions(compression="gzip"))
        job.wait_until_read()
        assert collector.send_spans(reached, 20) == 20

        now_ms = messages[most].timestamp_ms
        garbage = partial(
            send_garbage, stack.settings.kafka_bootstrap, topics_in(job.config), all_garbage(now_ms), now_ms
        )
        with playing(stack, job, messages[most:]):
            wait_until(lambda: counted(stack, "insights_emitted_total"), "an insight is counted", 240.0, 1.0)
            assert stack.prometheus.firing() <= MAY_FIRE, "before any fault"
            garbage()
            collector.send_spans(away, 20)
            verdict["panels"] = panels_with_data(stack, away)
            wait_until(lambda: stack.prometheus.raised() >= ON_FAULTS, f"{ON_FAULTS} will fire", 60.0, 1.0)
            # An alert outlives the job by the increase of its counter, which begins with the second value.
            garbage()
            wait_until(lambda: increased(stack, "messages_rejected_total"), "more messages are rejected", 60.0, 1.0)
            verdict["records"] = counted(stack, "records_folded_total")
            # Each 60 s, as shipped.
            sent = partial(collector.flink_sum, stack.settings.folder, "records_folded_total")
            verdict["records_in_a_report_by_otlp"] = wait_until(sent, "Flink's reports come by OTLP too", 90.0, 2.0)
            verdict["targets"] = stack.prometheus.healthy_targets()
            verdict["metrics"] = len(stack.prometheus.names())
            assert unknown_metrics(stack) == []

        # It fires two minutes later; the alerts about faults are to fire before.
        job.rest.cancel(job.job_id, deadline_s=60.0)
        verdict["fired_on_faults"] = fired(stack, ON_FAULTS)
        verdict["fired_after_the_end_of_the_job"] = fired(stack, {"MetricReasonerJobDown"}, ON_FAULTS)
        inhibited = wait_until(lambda: inhibited_alerts(stack), "Alertmanager holds back the rest", 300.0, 1.0)
        verdict["inhibited"] = sorted(inhibited)
        assert "MetricReasonerJobDown" not in inhibited
        verdict["pass"] = True


def started_job(stack: MonitoredStack, folder: Path) -> ClusterJob:
    """Start the shipped job with topics and tables of its own, and a limit that the shop exceeds."""
    settings = stack.settings
    jdbc = database(settings.postgres_sqlalchemy_url, settings.postgres_jdbc_url, NAME)
    config = job_config(NAME, settings.kafka_bootstrap, jdbc, folder, detection={"operations_max": 1})
    job = ClusterJob(config, FlinkRest(settings.flink_rest_url), folder)
    job.prepare(PARTITIONS)
    return job.started()


def telemetry() -> list[Message]:
    """Return the telemetry of the shop, a hundredth of its spans later than the job admits."""
    late, _ = make_late(
        shop_messages(), share_late=0.0, share_too_late=0.01, lateness_ms=120_000, age_ms_max=400_000, seed=1
    )
    return list(spread(late, PARTITIONS, 1))


@contextmanager
def probed(stack: MonitoredStack) -> Iterator[tuple[int, int]]:
    """Run a Collector beside the stack; yield its ports of OTLP/HTTP, to the broker and to none."""
    settings = stack.settings
    create_topics(settings.kafka_bootstrap, {collector.TOPIC: TopicSpec(1, KEEP_FOR_EVER_MS)})
    reached, away = free_ports(2)
    ports = (settings.collector_agent_metrics_port, reached, away, stack.otlp_port)
    stack.supervisor.up(
        [collector.collector(settings.folder, ports, settings.kafka_bootstrap, settings.prometheus_url)]
    )
    yield reached, away


@contextmanager
def playing(stack: MonitoredStack, job: ClusterJob, messages: Sequence[Message]) -> Iterator[None]:
    """Play messages, slowly enough for a busy machine, until the end of the `with` body."""
    ended = Event()

    def until_ended() -> Iterator[Message]:
        for message in messages:
            if ended.is_set():
                return
            yield message

    with ThreadPoolExecutor(1, "playing") as pool:
        options = PlayOptions(compression="gzip", speed=SPEED)
        played = pool.submit(play, until_ended(), stack.settings.kafka_bootstrap, topics_in(job.config), options)
        try:
            yield
            assert not played.done(), "everything was sent before the test was over, or the player has failed"
        finally:
            ended.set()
        played.result()


def counted(stack: MonitoredStack, counter: MetricName) -> float | None:
    return stack.prometheus.value(f'sum({OPERATOR}{counter}{{job_name="{NAME}"}})')


def increased(stack: MonitoredStack, counter: MetricName) -> bool:
    return bool(stack.prometheus.value(f'sum(increase({OPERATOR}{counter}{{job_name="{NAME}"}}[10m]))'))


def panels_with_data(stack: MonitoredStack, away: int) -> int:
    """Wait until each query of each panel has had a number; return how many panels there are."""
    lacking = {(title, promql) for title, queries in panels() for promql in queries}
    assert lacking

    def all_have_data() -> bool:
        collector.send_spans(away, 1)
        for title, promql in sorted(lacking):
            found = (float(series["value"][1]) for series in stack.prometheus.query(promql))
            if any(math.isfinite(value) for value in found):
                lacking.discard((title, promql))
        return not lacking

    wait_until(all_have_data, f"each panel has data; without: {lacking}", 180.0, 2.0)
    return len(list(panels()))


def fired(stack: MonitoredStack, wanted: Set[str], still: Set[str] = frozenset()) -> list[str]:
    """Wait until these alerts fire, and check that no others do. still: those of before may be over or not."""
    wait_until(lambda: wanted <= stack.prometheus.firing(), f"{wanted} fire", 240.0, 2.0)
    assert stack.prometheus.firing() <= wanted | still | MAY_FIRE
    return sorted(stack.prometheus.firing())


def unknown_metrics(stack: MonitoredStack) -> list[str]:
    """Return the metrics of Flink in alerts that the job has not shown; counters without a number are left out."""
    counters = {f"{OPERATOR}{name}" for name in get_args(MetricName)}
    named = {name for rule in alerts() for name in metrics_in(rule["expr"])}
    return sorted(named - counters - stack.prometheus.names())


def inhibited_alerts(stack: MonitoredStack) -> set[str]:
    """Return the names of the alerts that Alertmanager holds back because the job is down."""
    with answer_of(f"{stack.alertmanager_url}/api/v2/alerts", 10.0) as answer:
        found = json.load(answer)
    return {alert["labels"]["alertname"] for alert in found if alert["status"]["inhibitedBy"]}
