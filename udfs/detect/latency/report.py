"""Insight of a latency or error episode: measures, the hosts, operations and callees that carry it, and its title."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from state_schemas.aggregates.spans import ANY_KIND, Dimension, Exemplar, Series
from state_schemas.contracts.insight import Contribution, Evidence, Insight, Severity, TraceExemplar
from state_schemas.state.latency import Episode
from udfs.detect.finding import Finding
from udfs.detect.latency.baseline import threshold_ns
from udfs.detect.lifecycle import Course
from udfs.detect.service_window import ServiceKey
from udfs.insights.wording import clock, kafka_ranges, percent, seconds
from udfs.spans.sketches import Sketch
from udfs.spans.window import rows

CONTRIBUTIONS_MAX: Final = 10
# A host, operation or callee carries an anomaly if it has this share of the anomalous spans ...
CARRIED_SHARE_MIN: Final = 0.6
# ... and at least this many times its share of all spans.
CARRIED_LIFT_MIN: Final = 1.5


def report(key: ServiceKey, episode: Episode, course: Course) -> Insight:
    """Return the insight of an episode, whose table holds at least one span of its series."""
    found = _Findings(episode, dict(rows(episode.table)))
    evidence, measures, cold = found.evidence(key.service), found.measures(), episode.thresholds.cold_start
    return Finding(
        kind=episode.kind,
        subject=episode.series.name,
        start_ms=episode.start_ms,
        end_ms=episode.end_ms,
        severity=found.severity(measures),
        confidence=0.5 if cold else 0.95,
        cold_start=cold,
        text=found.title(measures, evidence),
        measures=measures,
        evidence=evidence,
        info=episode.table.info,
    ).candidate(key, course)


def anomalous_spans(episode: Episode, sketch: Sketch) -> int:
    """Count the slow spans, or those that fail, depending on the kind of the episode."""
    if episode.kind == "error_ratio":
        return sketch.errors
    return sketch.count_from(episode.thresholds.threshold_bin)


@dataclass(frozen=True, slots=True)
class _Findings:
    """An episode with the rows of its table."""

    episode: Episode
    rows: dict[Series, Sketch]

    @property
    def total(self) -> Sketch:
        """Spans of the series."""
        return self.rows[self.episode.series]

    @property
    def quantity(self) -> str:
        """Prefix of the measures: `gap` for network time, `latency` for durations of spans."""
        return "gap" if self.episode.series.dimension is Dimension.NETWORK_TIME else "latency"

    def evidence(self, service: str) -> Evidence:
        callees = self.contributions(Dimension.CALLEE)
        return Evidence(
            traces=self.traces(),
            hosts=self.contributions(Dimension.HOST),
            operations=self.contributions(Dimension.OPERATION),
            callees=callees,
            edges=tuple(f"{service} -> {part.name}" for part in callees if self.explains(part)),
            kafka=kafka_ranges(self.episode.table.ranges),
        )

    def contributions(self, dimension: Dimension) -> tuple[Contribution, ...]:
        """Return the hosts, operations or callees that carry the anomaly of a service, at most CONTRIBUTIONS_MAX.

        Where the series is a host, an operation or a callee, only that one is returned: its spans are not split
        further. A call counts as anomalous from the threshold of a slow request.
        """
        series = self.episode.series
        if series.dimension is Dimension.NETWORK_TIME and dimension is Dimension.CALLEE:
            dimension = Dimension.NETWORK_TIME
        of_names = {
            key.name: sketch
            for key, sketch in self.rows.items()
            if key.dimension is dimension and (series.dimension is Dimension.SERVICE or key == series)
        }
        anomalous = {name: anomalous_spans(self.episode, sketch) for name, sketch in of_names.items()}
        spans_sum, anomalous_sum = sum(sketch.spans for sketch in of_names.values()), max(1, sum(anomalous.values()))
        ranked = sorted(of_names, key=lambda name: (-anomalous[name], name))[:CONTRIBUTIONS_MAX]
        return tuple(
            Contribution(
                name=name,
                share=round(anomalous[name] / anomalous_sum, 4),
                traffic_share=round(of_names[name].spans / spans_sum, 4),
                spans=of_names[name].spans,
            )
            for name in ranked
        )

    def explains(self, part: Contribution) -> bool:
        """Return whether a callee explains the anomaly.

        Most of the anomalous calls go to it, and the anomalous share of its calls is at least half that of the series.
        """
        of_gap = self.episode.series.dimension is Dimension.NETWORK_TIME
        calls = self.rows[Series(ANY_KIND, Dimension.NETWORK_TIME if of_gap else Dimension.CALLEE, part.name)]
        total = self.total
        anomalous, anomalous_calls = (anomalous_spans(self.episode, sketch) for sketch in (total, calls))
        least = anomalous * calls.spans
        return part.share >= CARRIED_SHARE_MIN and 2 * anomalous_calls * total.spans >= least > 0

    def measures(self) -> dict[str, float]:
        episode, total, quantity = self.episode, self.total, self.quantity
        thresholds, dimension = episode.thresholds, episode.series.dimension
        of_calls = dimension in (Dimension.CALLEE, Dimension.NETWORK_TIME)
        counted = "sampled_calls" if of_calls else "spans"  # calls are paired for a sample of traces only
        measures = {counted: float(total.spans), "error_ratio": round(total.errors / total.spans, 6)}
        for q, label in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
            measures[f"{quantity}_ms_{label}"] = round(total.quantile_ns(q) / 1e6, 3)
        if dimension is Dimension.CALLEE:
            gap = self.rows[Series(ANY_KIND, Dimension.NETWORK_TIME, episode.series.name)]
            measures["gap_ms_p95"] = round(gap.quantile_ns(0.95) / 1e6, 3)
        anomalous = float(anomalous_spans(episode, total))
        if episode.kind == "error_ratio":
            measures["error_spans"] = anomalous
            measures["baseline_error_ratio_bound"] = round(thresholds.usual_share, 6)
            return measures
        threshold_ms = float(threshold_ns(np.array(thresholds.threshold_bin))) / 1e6
        measures[f"threshold_{quantity}_ms"] = round(threshold_ms, 3)
        measures["slow_spans"] = anomalous
        if thresholds.usual_ns:
            measures[f"baseline_{quantity}_ms_p95"] = round(thresholds.usual_ns / 1e6, 3)
        return measures

    def severity(self, measures: dict[str, float]) -> Severity:
        if self.episode.kind == "error_ratio":
            return "critical" if measures["error_ratio"] >= 0.25 else "warning"
        usual = measures.get(f"baseline_{self.quantity}_ms_p95", measures[f"threshold_{self.quantity}_ms"])
        return "critical" if measures[f"{self.quantity}_ms_p95"] >= 5 * usual else "warning"

    def title(self, measures: dict[str, float], evidence: Evidence) -> str:
        episode, traces = self.episode, evidence.traces
        parts = [f"{self.finding(measures)} since {clock(episode.start_ms)}"]
        if episode.version:
            parts.append(f"new since version {episode.version}")
        if episode.kind == "latency_spike" and episode.series.dimension is Dimension.CALLEE:
            parts.append(f"P95 network time {seconds(measures['gap_ms_p95'] * 1e6)}")
        if "sampled_calls" in measures:
            parts.append(f"{measures['sampled_calls']:.0f} sampled calls")
        carried_by = {"on host": evidence.hosts, "in operation": evidence.operations, "calling": evidence.callees}
        parts += [
            f"{label} {contributions[0].name} ({percent(contributions[0].share)})"
            for label, contributions in carried_by.items()
            if len(contributions) > 1 and carries(contributions[0])
        ]
        trace = f"; trace {traces[0].trace_id}" if traces and traces[0].role != "median" else ""
        return ", ".join(parts) + trace

    def finding(self, measures: dict[str, float]) -> str:
        """Return the finding with its measure and the usual one, of the service, host, operation or callee."""
        series, thresholds = self.episode.series, self.episode.thresholds
        dimension, name = series.dimension, series.name
        part = {Dimension.HOST: f" on host {name}", Dimension.OPERATION: f" in operation {name}"}.get(dimension, "")
        calls = {Dimension.CALLEE: f"latency of calls to {name}", Dimension.NETWORK_TIME: f"network time to {name}"}
        if self.episode.kind == "error_ratio":
            requests = f"calls to {name}" if dimension in calls else f"requests{part}"
            bound = f"usually under {percent(thresholds.usual_share, 1)}"
            usual = "no baseline yet" if thresholds.cold_start else bound
            return f"{percent(measures['error_ratio'], 1)} of {requests} fail ({usual})"
        quantity = calls.get(dimension, f"latency{part}")
        usual = f"usually {seconds(thresholds.usual_ns)}" if thresholds.usual_ns else "no baseline yet"
        return f"P95 {quantity} {seconds(measures[f'{self.quantity}_ms_p95'] * 1e6)} ({usual})"

    def traces(self) -> tuple[TraceExemplar, ...]:
        """Return exemplars of the series: failing spans, or the slowest ones and the one nearest to the median."""
        series, table = self.episode.series, self.episode.table
        if series.dimension in (Dimension.CALLEE, Dimension.NETWORK_TIME):
            longest = table.network_times if series.dimension is Dimension.NETWORK_TIME else table.calls
            return tuple(_exemplar("slowest", call) for callee, call in longest if callee == series.name)
        if self.episode.kind == "error_ratio":
            return tuple(_exemplar("failing", e) for e in table.failing if self.has(e))
        median_ns = self.total.quantile_ns(0.5)
        sampled = [e for e in table.sampled if self.has(e)]
        typical = min(sampled, key=lambda e: (abs(e.duration_ns - median_ns), e.trace_id), default=None)
        slowest = tuple(_exemplar("slowest", e) for e in table.slowest if self.has(e))
        return (*slowest, _exemplar("median", typical)) if typical else slowest

    def has(self, exemplar: Exemplar) -> bool:
        """Return whether an entry span belongs to the series."""
        series = self.episode.series
        of = {Dimension.HOST: exemplar.host, Dimension.OPERATION: exemplar.operation}
        return series.dimension not in of or of[series.dimension] == series.name


def carries(part: Contribution) -> bool:
    """Return whether a host, operation or callee carries an anomaly."""
    return part.share >= CARRIED_SHARE_MIN and part.share >= CARRIED_LIFT_MIN * part.traffic_share


def _exemplar(role: Literal["slowest", "median", "failing"], exemplar: Exemplar) -> TraceExemplar:
    return TraceExemplar(
        role=role,
        trace_id=exemplar.trace_id,
        latency_ms=round(exemplar.duration_ns / 1e6, 3),
        host=exemplar.host,
        operation=exemplar.operation,
    )
