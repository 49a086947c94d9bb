"""Insight of a pattern episode: measures, the hosts that log the pattern, and its title."""

from typing import Final

from state_schemas.aggregates.logs import LineSource
from state_schemas.contracts.insight import Contribution, Evidence, Insight, Severity, Status, TraceExemplar, Window
from state_schemas.state.log_patterns import PatternEpisode, Registered
from state_schemas.telemetry.resource import ServiceName
from udfs.detect.latency.report import CARRIED_SHARE_MIN
from udfs.insights.ids import insight_id
from udfs.insights.wording import clock, kafka_ranges, percent, rate, title_of
from udfs.logs.template import template_of

ERROR: Final = 17
FATAL: Final = 21
TEMPLATE_CHARS_MAX: Final = 200
HOUR_MS: Final = 3_600_000


def report(
    env: str,
    service: str,
    episode: PatternEpisode,
    entry: Registered,
    status: Status,
    reason: str = "",
    *,
    source: LineSource = "logs",
) -> Insight:
    """Return the insight of an episode. entry: that of its pattern.

    Exceptions of spans have a subject, and therefore ids, of their own: `<pattern id>@spans`.
    """
    name, counted, info = ServiceName.parse(service), episode.counted, episode.info
    subject = counted.pattern_id if source == "logs" else f"{counted.pattern_id}@{source}"
    measures = _measures(episode)
    evidence = _evidence(episode, template_of(entry.texts))
    return Insight(
        insight_id=insight_id(episode.kind, env, service, subject, episode.start_ms),
        revision=0,
        status=status,
        kind=episode.kind,
        env=env,
        site_id=info.site_id,
        namespace=name.namespace,
        service=name.name,
        subject=subject,
        window=Window(start_ms=episode.start_ms, end_ms=episode.end_ms),
        severity=_severity(counted.severity),
        confidence=0.9,
        title=title_of(_title(name.name, _finding(episode, measures, source), episode.start_ms, evidence)),
        reason=reason,
        measures=measures,
        evidence=evidence,
        container=info.container,
        image=info.image,
        version=info.version,
    )


def _evidence(episode: PatternEpisode, template: str) -> Evidence:
    samples = episode.counted.samples
    traces = tuple(
        TraceExemplar(role="sample", trace_id=trace_id, latency_ms=0.0, host=host, operation="")
        for trace_id, host in dict.fromkeys((sample.trace_id, sample.host) for sample in samples)
        if len(trace_id) == 32
    )
    return Evidence(
        traces=traces,
        hosts=_hosts(episode),
        sample_lines=tuple(dict.fromkeys(sample.line for sample in samples)),
        template=template,
        kafka=kafka_ranges(episode.ranges),
    )


def _measures(episode: PatternEpisode) -> dict[str, float]:
    minutes = (episode.end_ms - episode.start_ms) / 60_000
    measures = {"lines": float(episode.counted.count), "lines_per_min": round(episode.counted.count / minutes, 3)}
    if episode.kind == "error_pattern_surge":
        measures["lines_per_min_usual"] = round(episode.usual * 60_000 / episode.window_ms, 3)
    if episode.kind == "error_pattern_returned":
        measures["away_h"] = round(episode.absent_ms / HOUR_MS, 3)
    return measures


def _hosts(episode: PatternEpisode) -> tuple[Contribution, ...]:
    lines = sum(count for _, count in episode.counted.hosts)
    ranked = sorted(episode.counted.hosts, key=lambda host: (-host[1], host[0]))
    return tuple(
        Contribution(name=name, share=round(count / lines, 4), traffic_share=0.0, spans=count) for name, count in ranked
    )


def _finding(episode: PatternEpisode, measures: dict[str, float], source: LineSource) -> str:
    is_error, lines = episode.counted.severity >= ERROR, episode.counted.count
    noun = "exception in spans" if source == "spans" else "error" if is_error else "warning"
    times = "once" if lines == 1 else f"{lines:,} times"
    match episode.kind:
        case "error_pattern_new":
            return f"new {noun}, {times}"
        case "error_pattern_returned":
            return f"{noun} returned after {measures['away_h']:.1f} h, {times}"
        case "error_pattern_surge":
            usual = rate(measures["lines_per_min_usual"])
            return f"{noun} {rate(measures['lines_per_min'])} per minute (usually {usual})"


def _title(service: str, finding: str, start_ms: int, evidence: Evidence) -> str:
    title = f"{service}: {finding} since {clock(start_ms)}: {title_of(evidence.template, TEMPLATE_CHARS_MAX)}"
    if evidence.hosts and evidence.hosts[0].share >= CARRIED_SHARE_MIN:
        title += f"; on host {evidence.hosts[0].name} ({percent(evidence.hosts[0].share)})"
    return title + (f"; trace {evidence.traces[0].trace_id}" if evidence.traces else "")


def _severity(number: int) -> Severity:
    return "critical" if number >= FATAL else "warning" if number >= ERROR else "info"
