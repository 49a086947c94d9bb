"""An episode of slow or failing spans as an Insight: numbers, who carries it, and a sentence a colleague would say."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from state_schemas.insights import (
    Contribution,
    Evidence,
    Insight,
    KafkaRange,
    Severity,
    Status,
    TraceExemplar,
    Window,
)
from state_schemas.latency import Watch
from state_schemas.partials import (
    DIMENSION_HOST,
    DIMENSION_OPERATION,
    Exemplar,
    OffsetRange,
    SpanBlock,
)
from udfs.ids import insight_id
from udfs.partials import Row, merge_rows, rows, service_row
from udfs.sketch import count_above, quantile_ns

CONTRIBUTIONS_MAX = 10
CARRIED_SHARE_MIN = 0.6  # said to carry it: most of the anomaly ...
CARRIED_LIFT_MIN = 1.5  # ... and clearly more than its part of the traffic

SpikeKind = Literal["latency_spike", "error_ratio"]


def report(kind: SpikeKind, env: str, service: str, watch: Watch, status: Status, reason: str = "") -> Insight:
    """The episode as it stands; `watch` is open and holds at least one entry span."""
    assert watch.block is not None, "an episode without spans has no evidence"
    beyond = _beyond(kind, watch)
    total = service_row(watch.block)
    hosts = _contributions(watch.block, DIMENSION_HOST, beyond)
    operations = _contributions(watch.block, DIMENSION_OPERATION, beyond)
    measures = _measures(kind, watch, total, beyond(total))
    facts = watch.block.facts
    return Insight(
        insight_id=insight_id(kind, env, service, "", watch.start_ms),
        revision=0,
        status=status,
        kind=kind,
        env=env,
        site_id=facts.site_id,
        service=service,
        subject="",
        window=Window(start_ms=watch.start_ms, end_ms=watch.end_ms),
        severity=_severity(kind, measures),
        confidence=0.5 if watch.cold_start else 0.95,
        cold_start=watch.cold_start,
        title=_title(kind, service, watch, measures, hosts, operations),
        reason=reason,
        measures=measures,
        evidence=Evidence(
            traces=_traces(watch.block, total),
            hosts=hosts,
            operations=operations,
            kafka=kafka_ranges(watch.block.ranges),
        ),
        container=facts.container,
        image=facts.image,
        version=facts.version,
    )


def kafka_ranges(ranges: tuple[OffsetRange, ...]) -> tuple[KafkaRange, ...]:
    """Offset ranges in the form of the contract."""
    return tuple(
        KafkaRange(topic=r.topic, partition=r.partition, first_offset=r.first_offset, last_offset=r.last_offset)
        for r in ranges
    )


def clock(at_ms: int) -> str:
    """Time of day in UTC, as titles say it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")


def seconds(duration_ns: float) -> str:
    """A duration with two significant digits and the unit a person would choose."""
    if duration_ns >= 1e9:
        return f"{duration_ns / 1e9:.2g} s" if duration_ns < 1e11 else f"{duration_ns / 1e9:.0f} s"
    return f"{duration_ns / 1e6:.2g} ms" if duration_ns < 1e8 else f"{duration_ns / 1e6:.0f} ms"


def _beyond(kind: SpikeKind, watch: Watch) -> Callable[[Row], int]:
    if kind == "error_ratio":
        return lambda row: row.errors
    return lambda row: count_above(row.bins, row.counts, watch.threshold_ns)


def _contributions(block: SpanBlock, dimension: int, beyond: Callable[[Row], int]) -> tuple[Contribution, ...]:
    by_name: dict[str, list[Row]] = {}
    for row in rows(block):
        if row.key[1] == dimension:
            by_name.setdefault(row.key[2], []).append(row)
    merged = {name: merge_rows(found) for name, found in by_name.items()}
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


def _measures(kind: SpikeKind, watch: Watch, total: Row, beyond: int) -> dict[str, float]:
    measures = {"spans": float(total.spans), "error_ratio": round(total.errors / total.spans, 6)}
    for q, label in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
        measures[f"latency_ms_{label}"] = round(quantile_ns(total.bins, total.counts, q) / 1e6, 3)
    if kind == "latency_spike":
        measures["threshold_latency_ms"] = round(watch.threshold_ns / 1e6, 3)
        measures["slow_spans"] = float(beyond)
        if watch.usual_ns:
            measures["baseline_latency_ms_p95"] = round(watch.usual_ns / 1e6, 3)
    else:
        measures["error_spans"] = float(beyond)
        measures["baseline_error_ratio_bound"] = round(watch.usual_share, 6)
    return measures


def _severity(kind: SpikeKind, measures: dict[str, float]) -> Severity:
    if kind == "error_ratio":
        return "critical" if measures["error_ratio"] >= 0.25 else "warning"
    usual = measures.get("baseline_latency_ms_p95", measures["threshold_latency_ms"])
    return "critical" if measures["latency_ms_p95"] >= 5 * usual else "warning"


def _title(
    kind: SpikeKind,
    service: str,
    watch: Watch,
    measures: dict[str, float],
    hosts: tuple[Contribution, ...],
    operations: tuple[Contribution, ...],
) -> str:
    if kind == "error_ratio":
        head = (
            f"{service} fails {measures['error_ratio']:.1%} of requests, "
            f"usually under {watch.usual_share:.1%}, since {clock(watch.start_ms)}"
        )
    else:
        usual = f"usually {seconds(watch.usual_ns)}" if watch.usual_ns else "no baseline yet"
        head = f"{service} P95 {seconds(measures['latency_ms_p95'] * 1e6)}, {usual}, since {clock(watch.start_ms)}"
    carriers = [
        f"{label} {part.name} ({part.share:.0%})"
        for label, parts in (("host", hosts), ("operation", operations))
        for part in parts[:1]
        if len(parts) > 1 and part.share >= CARRIED_SHARE_MIN and part.share >= CARRIED_LIFT_MIN * part.traffic_share
    ]
    carried = f"; carried by {', '.join(carriers)}" if carriers else ""
    slowest = watch.block.slowest if watch.block else ()
    trace = f"; slowest trace {slowest[0].trace_id}" if slowest else ""
    return f"{head}{carried}{trace}"[:400]


def _traces(block: SpanBlock, total: Row) -> tuple[TraceExemplar, ...]:
    median_ns = quantile_ns(total.bins, total.counts, 0.5)
    typical = min(block.sampled, key=lambda e: (abs(e.duration_ns - median_ns), e.trace_id), default=None)
    slowest = tuple(_exemplar("slowest", e) for e in block.slowest)
    return slowest + ((_exemplar("median", typical),) if typical else ())


def _exemplar(role: Literal["slowest", "median"], exemplar: Exemplar) -> TraceExemplar:
    return TraceExemplar(
        role=role,
        trace_id=exemplar.trace_id,
        latency_ms=round(exemplar.duration_ns / 1e6, 3),
        host=exemplar.host,
        operation=exemplar.operation,
    )
