"""An episode of slow or failing spans as an Insight: numbers, who carries it, and a sentence a colleague would say."""

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
from udfs.detect.latency.baseline import threshold_ns
from udfs.insights.ids import insight_id
from udfs.insights.wording import clock, kafka_ranges, seconds, title_of
from udfs.spans.window import Row, row_of, rows
from udfs.stats.duration_histogram import count_from, quantile_ns

CONTRIBUTIONS_MAX = 10

CARRIED_SHARE_MIN = 0.6  # said to carry it: most of the anomaly ...

CARRIED_LIFT_MIN = 1.5  # ... and clearly more than its part of the traffic


def report(kind: SpikeKind, env: str, service: str, episode: Episode, status: Status, reason: str = "") -> Insight:
    """The episode as it stands; its block holds at least one span of its series."""
    beyond = _beyond(kind, episode)
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
        service=service,
        subject=subject,
        window=Window(start_ms=episode.start_ms, end_ms=episode.end_ms),
        severity=_severity(kind, _quantity(episode), measures),
        confidence=0.5 if cold else 0.95,
        cold_start=cold,
        title=title_of(_title(kind, service, episode, measures, (hosts, operations, callees), traces)),
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
    """Who carries the anomaly of a service. Of a part of it only itself: nothing is known of it by the others.

    Of callees a call counts that took as long as a slow request.
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
    counted = "sampled_calls" if of_calls else "spans"  # calls are paired of a sample of traces
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
    """What the measures are of: how long the spans of the series took, or the way to a callee and back."""
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
    """carried_by: hosts, operations, callees."""
    dimension, name = episode.series
    who = {
        DIMENSION_HOST: f"{service} on host {name}",
        DIMENSION_OPERATION: f"{service} {name}",
        DIMENSION_CALLEE: f"{service}'s calls to {name}",
        DIMENSION_NETWORK_TIME: f"way from {service} to {name} and back",
    }.get(dimension, service)
    since = f"since {clock(episode.start_ms)}"
    if kind == "error_ratio":
        bound = episode.thresholds.usual_share
        fails = "fail" if dimension == DIMENSION_CALLEE else "fails"
        usual = "no baseline yet" if episode.thresholds.cold_start else f"usually under {bound:.1%}"
        head = f"{who} {fails} {measures['error_ratio']:.1%} of requests, {usual}, {since}"
    else:
        usual_ns = episode.thresholds.usual_ns
        usual = f"usually {seconds(usual_ns)}" if usual_ns else "no baseline yet"
        head = f"{who} P95 {seconds(measures[f'{_quantity(episode)}_ms_p95'] * 1e6)}, {usual}, {since}"
        if dimension == DIMENSION_CALLEE:
            head += f", the way there and back {seconds(measures['gap_ms_p95'] * 1e6)}"
    if "sampled_calls" in measures:
        head += f", of {measures['sampled_calls']:.0f} sampled calls"
    carriers = [
        f"{label} {part.name} ({part.share:.0%})"
        for label, parts in zip(("host", "operation", "calls to"), carried_by, strict=True)
        for part in parts[:1]
        if len(parts) > 1 and _carries(part)
    ]
    carried = f"; carried by {', '.join(carriers)}" if carriers else ""
    trace = f"; {traces[0].role} trace {traces[0].trace_id}" if traces and traces[0].role != "median" else ""
    return f"{head}{carried}{trace}"[:400]


def _explains(episode: Episode, part: Contribution, beyond: Callable[[Row], int], row: Row) -> bool:
    """Whether most of the anomalous calls go there, and they are as frequent among its calls as in the series."""
    dimension = DIMENSION_NETWORK_TIME if episode.series[0] == DIMENSION_NETWORK_TIME else DIMENSION_CALLEE
    calls = row_of(episode.table, dimension, part.name)
    return part.share >= CARRIED_SHARE_MIN and 2 * beyond(calls) * row.spans >= beyond(row) * calls.spans > 0


def _carries(part: Contribution) -> bool:
    return part.share >= CARRIED_SHARE_MIN and part.share >= CARRIED_LIFT_MIN * part.traffic_share


def _traces(kind: SpikeKind, episode: Episode, total: Row) -> tuple[TraceExemplar, ...]:
    """Failing spans of the series, or its slowest and the one nearest to its median: of those kept of the service."""
    dimension, name = episode.series
    table = episode.table
    if dimension in (DIMENSION_CALLEE, DIMENSION_NETWORK_TIME):
        longest = table.network_times if dimension == DIMENSION_NETWORK_TIME else table.calls
        return tuple(_exemplar("slowest", call) for callee, call in longest if callee == name)
    slowest, sampled, failing = (
        [
            e
            for e in found
            if dimension == DIMENSION_SERVICE or name == (e.host, e.operation)[dimension - DIMENSION_HOST]
        ]
        for found in (table.slowest, table.sampled, table.failing)
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
