"""Bounds of every state: many names, spans of past windows, services that come and go."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from jobs.graph import JOBS, GraphConfig, stages
from operators.ingest.fold import FoldConfig, LogFold, logs_part
from operators.runtime.local import LocalGraph
from state_schemas.aggregates.activity import Activity, ActivityWindow, EnvActivity
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.requests import EffectAggregate, EffectWindow
from state_schemas.contracts.insight import Insight
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition, OffsetRange
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.signals import SignalType
from tests.support.driving import graph_config, insights
from tests.support.machines import stage_of
from tests.support.traffic import MS, READER, START_MS, WINDOW_MS, OneSpan, Sent, fold
from udfs.detect.log_patterns.rule import PatternConfig
from udfs.detect.requests.rates import EFFECTS_MAX
from udfs.otlp.decoder import DecodeSettings

STATE_BYTES_MAX = 256 * 1024
PATTERN_BYTES_MAX = 640 * 1024  # of a service, with default settings


def grown(sent: list[Sent], every: int = 1) -> int:
    """Return the largest state of latency-spike in bytes, of those after every n-th message."""
    graph = LocalGraph(JOBS["latency-spikes"].stages(graph_config()))
    largest = 0
    for number, message in enumerate(sent, 1):
        graph.feed((fold(message).message,))
        graph.advance(message.timestamp_ms - 5_000)
        if number % every == 0:
            largest = max(
                largest, *(size for (uid, _), size in graph.state_bytes().items() if uid == "latency-spike"), 0
            )
    return largest


def test_spans_of_past_windows_do_not_grow_the_state() -> None:
    """For five minutes, twice a second, a message holds a span of a window that has ended."""
    sent = [
        Sent(
            START_MS + number * 500,
            (OneSpan("cart", START_MS + number * 500 - 15_000, 20, number + 1, host=f"host-{number % 50}"),),
            0,
            number,
        )
        for number in range(600)
    ]
    assert 1_000 < grown(sent, every=4) < STATE_BYTES_MAX


def test_a_service_of_a_thousand_hosts_and_two_hundred_operations_keeps_its_state_in_bounds() -> None:
    """Ten thousand spans a window with log-normal latencies fill the sketches as far as possible."""
    random = Random(1)
    sent = []
    for window in range(10):
        end_ms = START_MS + (window + 1) * WINDOW_MS
        spans = tuple(
            OneSpan(
                service="cart",
                end_ms=end_ms - 1 - n % 9_000,
                latency_ms=20 * random.lognormvariate(0, 0.5),
                number=10_000 * window + n + 1,
                host=f"h{n % 1_000}",
                operation=f"o{n % 200}",
            )
            for n in range(10_000)
        )
        sent.append(Sent(end_ms, spans, 0, window))
    assert 100_000 < grown(sent) < STATE_BYTES_MAX


def test_services_that_come_and_go_leave_no_state() -> None:
    """With a deploy id in the name each name exists for 70 minutes, for five days.

    The no-data insight of a name closes when the service is no longer expected.
    """
    sent = []
    for number in range(5 * 24 * 30):
        seen = tuple(Activity("traces", name, 1) for name in ("cart", f"mail-{number // 35}"))
        ranges = (OffsetRange("trace_events", 0, number, number),)
        window = ActivityWindow(START_MS + number * 120_000, seen, ranges)
        sent.append(EnvActivity("prod", (window,)))
    early, late, emitted = grown_gap(sent)
    assert late < 1.2 * early, f"{early} bytes after the first half of the days, {late} after all"
    last = {insight.insight_id: insight for insight in emitted}
    open_ones = [insight for insight in last.values() if insight.status == "open"]
    assert len(open_ones) <= 2 * 24 + 2, "the insight of a service that is no longer expected must close"


def grown_gap(sent: list[EnvActivity]) -> tuple[int, int, list[Insight]]:
    """Return the size of the state of the no-data detector after a half and at the end, and its insights."""
    graph = LocalGraph([stage_of("telemetry-gap", "final")])
    out: list[Any] = []
    sizes: list[int] = []
    for half in (sent[: len(sent) // 2], sent[len(sent) // 2 :]):
        for event in half:
            out += graph.feed((event,))
            out += graph.advance(event.windows[0].start_ms + WINDOW_MS - 5_000)
        sizes += graph.state_bytes().values()
    early, late = sizes
    return early, late, insights(out)


def fed(graph: LocalGraph, sent: list[Sent]) -> list[Any]:
    """Return the outputs of the messages; event time advances to the timestamp of each."""
    out: list[Any] = []
    for message in sent:
        out += graph.feed((fold(message).message,))
        out += graph.advance(message.timestamp_ms)
    return out


def test_the_names_of_environments_are_bounded_and_no_record_is_lost() -> None:
    """Three hundred environments, each with one service: all but four share the name and the state of `other`."""
    sent = [
        Sent(START_MS + n * 100, (OneSpan(f"svc-{n % 7}", START_MS + n * 100, 20, n + 1, env=f"env-{n}"),), 0, n)
        for n in range(300)
    ]
    graph = LocalGraph(stages(graph_config("final", envs_max=4)))
    out = fed(graph, sent)
    envs = {key.partition("|")[0] for uid, key in graph.state_bytes() if uid in ("latency-spike", "telemetry-gap")}
    assert envs == {"env-0", "env-1", "env-2", "env-3", "other"}
    out += graph.finish()
    counted = sum(row.count for row in out if getattr(row, "dimension", "") == "service" and row.resolution_s == 60)
    assert counted == 300
    assert graph.counts["envs_overflowed_total"] == 296


def test_the_names_of_services_are_bounded_and_no_record_is_lost() -> None:
    sent = [
        Sent(START_MS + n * 1_000, (OneSpan(f"svc-{n}", START_MS + n * 1_000, 20, n + 1),), 0, n) for n in range(100)
    ]
    graph = LocalGraph(stages(graph_config(services_max=20)))
    out = fed(graph, sent)
    keys = {key for uid, key in graph.state_bytes() if uid == "latency-spike"}
    assert len(keys) == 21
    assert "prod|other" in keys
    out += graph.finish()
    counted = sum(row.count for row in out if getattr(row, "dimension", "") == "service" and row.resolution_s == 60)
    assert counted == 100
    assert graph.counts["services_overflowed_total"] == 80


@pytest.mark.parametrize("signal", ["logs", "metrics"])
def test_names_beyond_the_bounds_are_counted_in_logs_and_metrics_once_a_message(signal: SignalType) -> None:
    """Lines and activity of one message name the same service: the name counts once."""
    records = [
        LogRecord(Resource(f"env-{n % 6}", f"svc-{n}", "h"), START_MS * MS, 9, "", "hello", "", (), "")
        for n in range(60)
    ]
    graph = LocalGraph(stages(graph_config(services_max=5, envs_max=3)))
    for offset, record in enumerate(records):
        at = KafkaPosition(signal, 0, offset, START_MS)
        part = logs_part([record], READER, at, FoldConfig())
        message = FoldedMessage(f"{signal}|0", None, part.activity, signal, part.logs if signal == "logs" else ())
        graph.feed((message,))
    assert graph.counts["envs_overflowed_total"] == 60 // 2
    assert graph.counts["services_overflowed_total"] == 60 - 4 * 5, "three environments and `other`, five services each"


def test_hosts_and_operations_beyond_the_bounds_are_counted_where_one_message_brings_them_all() -> None:
    """Pre-aggregation limits the names before any window is merged."""
    spans = tuple(
        OneSpan("cart", START_MS, 20, n + 1, host=f"h{n}", operation=f"o{n}" if n < 150 else "o") for n in range(300)
    )
    graph = LocalGraph(stages(graph_config()))
    fed(graph, [Sent(START_MS + 1, spans, 0, 0)])
    graph.finish()
    assert graph.counts["names_overflowed_total"] == 1, "the hosts of one window; its operations are within the limit"


def test_a_message_beyond_its_length_is_counted_and_not_read() -> None:
    at = KafkaPosition("logs_raw", 0, 0, START_MS)
    found = LogFold(FoldConfig(decode=DecodeSettings(message_bytes_max=9))).fold(bytes(10), at)
    assert (found.message, dict(found.counts)) == (None, {"messages_rejected_total": 1, "rejected_too_large_total": 1})


def test_a_flood_of_lines_without_common_words_fills_the_state_of_a_service_up_to_its_bound() -> None:
    """Default settings with insights on: after the warm-up 800 such lines a window, for five minutes."""
    random, at_rest, windows = Random(4), 66, 96
    config = replace(GraphConfig(), patterns=PatternConfig(insights=True))
    graph, sizes = LocalGraph([stage for stage in JOBS["error-patterns"].stages(config) if stage.signal is None]), []
    for window in range(windows):
        time_ms = START_MS + window * WINDOW_MS
        flood = [" ".join(_word(random) for _ in range(4)) for _ in range(800 if window >= at_rest else 0)]
        records = [
            LogRecord(Resource("prod", "cart", "h"), time_ms * MS, 17, "", body, "", (), "")
            for body in ("payment was declined by the bank", *flood)
        ]
        at = KafkaPosition("logs_raw", 0, window, time_ms + WINDOW_MS)
        graph.feed(logs_part(records, READER, at, FoldConfig()).logs)
        list(graph.advance(at.timestamp_ms))
        sizes.append(sum(graph.state_bytes().values()))
    before, middle, rest = max(sizes[:at_rest]), max(sizes[at_rest : (at_rest + windows) // 2]), sizes[-6:]
    assert 100 * before < middle, "no state of the flood is kept: the test proves nothing about a bound"
    assert max(rest) < 1.05 * middle, f"{middle} bytes in the middle of the flood, {max(rest)} at its end"
    assert max(rest) < PATTERN_BYTES_MAX


def _word(random: Random) -> str:
    return "".join(random.choices("ghijklmnopqrstuvwxyz", k=7))


def test_a_flood_of_lines_beside_requests_keeps_the_usual_effects_and_the_bound() -> None:
    """Each window has 1,000 different lines of 60 words, and the 50 usual lines, which stay in the model."""
    random = Random(4)
    (stage,) = (stage for stage in stages(GraphConfig()) if stage.uid == "request-effects")
    graph, largest = LocalGraph([stage]), 0
    usual = {f"line|{random.getrandbits(64):016x}": 5 for _ in range(50)}
    for window in range(80):
        start_ms = START_MS + window * WINDOW_MS
        flood = {f"line|{random.getrandbits(64):016x}": 1 for _ in range(1_000 if window < 60 else 0)}
        templates = {name: f"{name} " + "word " * 60 for name in flood}
        for effects, requests in ((flood, {}), (usual, {"GET /": 5})):
            table = EffectWindow(requests, effects, {name: templates.get(name, name)[:300] for name in effects})
            graph.feed((EffectAggregate("prod", "cart", ((start_ms, table),)),))
        graph.advance(start_ms)
        largest = max(largest, *graph.state_bytes().values())
    model = graph.state("request-effects", "prod|cart").model
    assert len(model.rates.names) == EFFECTS_MAX
    assert set(usual) <= set(model.rates.names)
    assert largest < STATE_BYTES_MAX
