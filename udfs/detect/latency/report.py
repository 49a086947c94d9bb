"""Insight of a latency or error episode: measures, the hosts, operations and callees that carry it, and its title."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from state_schemas.aggregates.spans import (
    DIMENSION_CALLEE,
    DIMENSION_HOST,
    DIMENSION_NETWORK_TIME,
    DIMENSION_OPERATION,
    DIMENSION_SERVICE,
    Exemplar,
)
from state_schemas.contracts.insight import (
    Contribution,
    Evidence,
    Insight,
    Severity,
    Status,
    TraceExemplar,
    Window,
)
from state_schemas.state.latency import Episode, SpikeKind
from state_schemas.telemetry.resource import ServiceName
from udfs.detect.latency.baseline import threshold_ns
from udfs.insights.ids import insight_id
from udfs.insights.wording import clock, kafka_ranges, percent, seconds, title_of
from udfs.spans.window import Row, row_of, rows
from udfs.stats.duration_histogram import count_from, quantile_ns

CONTRIBUTIONS_MAX = 10

# A host, operation or callee carries an anomaly if it has this share of the anomalous spans ...
CARRIED_SHARE_MIN = 0.6

# ... and at least this many times its share of all spans.
CARRIED_LIFT_MIN = 1.5


def report(kind: SpikeKind, env: str, service: str, episode: Episode, status: Status, reason: str = "") -> Insight:
    """Return the insight of an episode, whose table holds at least one span of its series."""
    name, beyond = ServiceName.parse(service), _beyond(kind, episode)
    row = row_of(episode.table, *episode.series)
    hosts = _contributions(episode, DIMENSION_HOST, beyond)
    operations = _contributions(episode, DIMENSION_OPERATION, beyond)
    callees = _contributions(episode, DIMENSION_CALLEE, beyond)
    edges = tuple(f"{service} -> {part.name}" for part in callees if _explains(episode, part, beyond, row))
    measures = _measures(kind, episode, row, beyond(row))
    traces = _traces(kind, episode, row)
    info = episode.table.info
    subject = episode.series[1]
    cold = episode.thresholds.cold_start
    return Insight(
        insight_id=insight_id(kind, env, service, subject, episode.start_ms),
        revision=0,
        status=status,
        kind=kind,
        env=env,
        site_id=info.site_id,
        namespace=name.namespace,
        service=name.name,
        subject=subject,
        window=Window(start_ms=episode.start_ms, end_ms=episode.end_ms),
        severity=_severity(kind, _quantity(episode), measures),
        confidence=0.5 if cold else 0.95,
        cold_start=cold,
        title=title_of(_title(kind, name.name, episode, measures, (hosts, operations, callees), traces)),
        reason=reason,
        measures=measures,
        evidence=Evidence(
            traces=traces,
            hosts=hosts,
            operations=operations,
            callees=callees,
            edges=edges,
            kafka=kafka_ranges(episode.table.ranges),
        ),
        container=info.container,
        image=info.image,
        version=info.version,
    )


def _beyond(kind: SpikeKind, episode: Episode) -> Callable[[Row], int]:
    if kind == "error_ratio":
        return lambda row: row.errors
    return lambda row: count_from(row.bins, row.counts, episode.thresholds.threshold_bin)


def _contributions(episode: Episode, dimension: int, beyond: Callable[[Row], int]) -> tuple[Contribution, ...]:
    """Return the hosts, operations or callees that carry the anomaly of a service, at most CONTRIBUTIONS_MAX.

    Where the series is a host, an operation or a callee, only that one is returned: its spans are not split further. A
    call counts as anomalous from the threshold of a slow request.
    """
    watched, name = episode.series
    if watched == DIMENSION_NETWORK_TIME and dimension == DIMENSION_CALLEE:
        dimension = DIMENSION_NETWORK_TIME
    merged = {
        row.key[2]: row
        for row in rows(episode.table)
        if row.key[1] == dimension and (watched == DIMENSION_SERVICE or row.key[1:] == (watched, name))
    }
    anomalous = {name: beyond(row) for name, row in merged.items()}
    spans_sum, anomalous_sum = sum(row.spans for row in merged.values()), max(1, sum(anomalous.values()))
    ranked = sorted(merged, key=lambda name: (-anomalous[name], name))[:CONTRIBUTIONS_MAX]
    return tuple(
        Contribution(
            name=name,
            share=round(anomalous[name] / anomalous_sum, 4),
            traffic_share=round(merged[name].spans / spans_sum, 4),
            spans=merged[name].spans,
        )
        for name in ranked
    )


def _measures(kind: SpikeKind, episode: Episode, total: Row, beyond: int) -> dict[str, float]:
    thresholds = episode.thresholds
    of_calls = episode.series[0] in (DIMENSION_CALLEE, DIMENSION_NETWORK_TIME)
    counted = "sampled_calls" if of_calls else "spans"  # calls are paired for a sample of traces only
    measures = {counted: float(total.spans), "error_ratio": round(total.errors / total.spans, 6)}
    quantity = _quantity(episode)
    for q, label in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
        measures[f"{quantity}_ms_{label}"] = round(quantile_ns(total.bins, total.counts, q) / 1e6, 3)
    if episode.series[0] == DIMENSION_CALLEE:
        gap = row_of(episode.table, DIMENSION_NETWORK_TIME, episode.series[1])
        measures["gap_ms_p95"] = round(quantile_ns(gap.bins, gap.counts, 0.95) / 1e6, 3)
    if kind == "latency_spike":
        measures[f"threshold_{quantity}_ms"] = round(float(threshold_ns(np.array(thresholds.threshold_bin))) / 1e6, 3)
        measures["slow_spans"] = float(beyond)
        if thresholds.usual_ns:
            measures[f"baseline_{quantity}_ms_p95"] = round(thresholds.usual_ns / 1e6, 3)
    else:
        measures["error_spans"] = float(beyond)
        measures["baseline_error_ratio_bound"] = round(thresholds.usual_share, 6)
    return measures


def _quantity(episode: Episode) -> str:
    """Return the prefix of the measures: `gap` for network time, `latency` for durations of spans."""
    return "gap" if episode.series[0] == DIMENSION_NETWORK_TIME else "latency"


def _severity(kind: SpikeKind, quantity: str, measures: dict[str, float]) -> Severity:
    if kind == "error_ratio":
        return "critical" if measures["error_ratio"] >= 0.25 else "warning"
    usual = measures.get(f"baseline_{quantity}_ms_p95", measures[f"threshold_{quantity}_ms"])
    return "critical" if measures[f"{quantity}_ms_p95"] >= 5 * usual else "warning"


def _title(
    kind: SpikeKind,
    service: str,
    episode: Episode,
    measures: dict[str, float],
    carried_by: tuple[tuple[Contribution, ...], ...],
    traces: tuple[TraceExemplar, ...],
) -> str:
    """Return the title. carried_by: contributions of hosts, operations, callees."""
    parts = [f"{service}: {_finding(kind, episode, measures)} since {clock(episode.start_ms)}"]
    if kind == "latency_spike" and episode.series[0] == DIMENSION_CALLEE:
        parts.append(f"P95 network time {seconds(measures['gap_ms_p95'] * 1e6)}")
    if "sampled_calls" in measures:
        parts.append(f"{measures['sampled_calls']:.0f} sampled calls")
    parts += [
        f"{label} {contributions[0].name} ({percent(contributions[0].share)})"
        for label, contributions in zip(("on host", "in operation", "calling"), carried_by, strict=True)
        if len(contributions) > 1 and _carries(contributions[0])
    ]
    trace = f"; trace {traces[0].trace_id}" if traces and traces[0].role != "median" else ""
    return ", ".join(parts) + trace


def _finding(kind: SpikeKind, episode: Episode, measures: dict[str, float]) -> str:
    """Return the finding with its measure and the usual one, of the service or of the host, operation or callee."""
    dimension, name = episode.series
    thresholds = episode.thresholds
    part = {DIMENSION_HOST: f" on host {name}", DIMENSION_OPERATION: f" in operation {name}"}.get(dimension, "")
    calls = {DIMENSION_CALLEE: f"latency of calls to {name}", DIMENSION_NETWORK_TIME: f"network time to {name}"}
    if kind == "error_ratio":
        requests = f"calls to {name}" if dimension in calls else f"requests{part}"
        usual = "no baseline yet" if thresholds.cold_start else f"usually under {percent(thresholds.usual_share, 1)}"
        return f"{percent(measures['error_ratio'], 1)} of {requests} fail ({usual})"
    quantity = calls.get(dimension, f"latency{part}")
    usual = f"usually {seconds(thresholds.usual_ns)}" if thresholds.usual_ns else "no baseline yet"
    return f"P95 {quantity} {seconds(measures[f'{_quantity(episode)}_ms_p95'] * 1e6)} ({usual})"


def _explains(episode: Episode, part: Contribution, beyond: Callable[[Row], int], row: Row) -> bool:
    """Return whether a callee explains the anomaly.

    Most of the anomalous calls go to it, and the anomalous share of its calls is at least half that of the series.
    """
    dimension = DIMENSION_NETWORK_TIME if episode.series[0] == DIMENSION_NETWORK_TIME else DIMENSION_CALLEE
    calls = row_of(episode.table, dimension, part.name)
    return part.share >= CARRIED_SHARE_MIN and 2 * beyond(calls) * row.spans >= beyond(row) * calls.spans > 0


def _carries(part: Contribution) -> bool:
    return part.share >= CARRIED_SHARE_MIN and part.share >= CARRIED_LIFT_MIN * part.traffic_share


def _traces(kind: SpikeKind, episode: Episode, total: Row) -> tuple[TraceExemplar, ...]:
    """Return exemplars of the series: failing spans, or the slowest ones and the one nearest to the median."""
    dimension, name = episode.series
    table = episode.table
    if dimension in (DIMENSION_CALLEE, DIMENSION_NETWORK_TIME):
        longest = table.network_times if dimension == DIMENSION_NETWORK_TIME else table.calls
        return tuple(_exemplar("slowest", call) for callee, call in longest if callee == name)
    slowest, sampled, failing = (
        [
            e
            for e in exemplars
            if dimension == DIMENSION_SERVICE or name == (e.host, e.operation)[dimension - DIMENSION_HOST]
        ]
        for exemplars in (table.slowest, table.sampled, table.failing)
    )
    if kind == "error_ratio":
        return tuple(_exemplar("failing", e) for e in failing)
    median_ns = quantile_ns(total.bins, total.counts, 0.5)
    typical = min(sampled, key=lambda e: (abs(e.duration_ns - median_ns), e.trace_id), default=None)
    return tuple(_exemplar("slowest", e) for e in slowest) + ((_exemplar("median", typical),) if typical else ())


def _exemplar(role: Literal["slowest", "median", "failing"], exemplar: Exemplar) -> TraceExemplar:
    return TraceExemplar(
        role=role,
        trace_id=exemplar.trace_id,
        latency_ms=round(exemplar.duration_ns / 1e6, 3),
        host=exemplar.host,
        operation=exemplar.operation,
    )
