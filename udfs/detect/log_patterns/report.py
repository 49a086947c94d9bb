"""An insight about a pattern: numbers, where it is logged, and a sentence a colleague would say."""

from typing import Final

import msgspec

from state_schemas.aggregates.logs import LineSource
from state_schemas.contracts.insight import Contribution, Evidence, Insight, Severity, Status, TraceExemplar, Window
from state_schemas.state.log_patterns import PatternEpisode, Registered
from udfs.detect.latency.report import CARRIED_SHARE_MIN
from udfs.insights.ids import insight_id
from udfs.insights.wording import TITLE_CHARS_MAX, clock, kafka_ranges, title_of
from udfs.logs.template import template_of

ERROR: Final = 17
FATAL: Final = 21
TEMPLATE_CHARS_MAX: Final = 200
HOUR_MS: Final = 3_600_000


def report(
    env: str, service: str, episode: PatternEpisode, entry: Registered, status: Status, reason: str = ""
) -> Insight:
    """The episode as it stands; entry: of its pattern."""
    counted, info = episode.counted, episode.info
    template = template_of(entry.texts)
    hosts = _hosts(episode)
    traces = tuple(
        TraceExemplar(role="sample", trace_id=trace_id, latency_ms=0.0, host=host, operation="")
        for trace_id, host in dict.fromkeys((sample.trace_id, sample.host) for sample in counted.samples)
        if len(trace_id) == 32
    )
    measures = _measures(episode)
    return Insight(
        insight_id=insight_id(episode.kind, env, service, counted.pattern_id, episode.start_ms),
        revision=0,
        status=status,
        kind=episode.kind,
        env=env,
        site_id=info.site_id,
        service=service,
        subject=counted.pattern_id,
        window=Window(start_ms=episode.start_ms, end_ms=episode.end_ms),
        severity=_severity(counted.severity),
        confidence=0.9,
        title=title_of(_title(service, episode, template, measures, hosts, traces)),
        reason=reason,
        measures=measures,
        evidence=Evidence(
            traces=traces,
            hosts=hosts,
            sample_lines=tuple(dict.fromkeys(sample.line for sample in counted.samples)),
            template=template,
            kafka=kafka_ranges(episode.ranges),
        ),
        container=info.container,
        image=info.image,
        version=info.version,
    )


def for_source(insight: Insight, source: LineSource) -> Insight:
    """What `report` made, as it is told of lines of this source: of spans, under a subject and so an id of its own."""
    if source == "logs":
        return insight
    subject = f"{insight.subject}@{source}"
    start_ms = insight.window.start_ms
    title = insight.title.replace(f"{insight.service} logs ", f"{insight.service} throws ", 1)
    return msgspec.structs.replace(
        insight,
        insight_id=insight_id(insight.kind, insight.env, insight.service, subject, start_ms),
        subject=subject,
        title=title[:TITLE_CHARS_MAX],
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


def _title(
    service: str,
    episode: PatternEpisode,
    template: str,
    measures: dict[str, float],
    hosts: tuple[Contribution, ...],
    traces: tuple[TraceExemplar, ...],
) -> str:
    what = "error" if episode.counted.severity >= ERROR else "warning"
    said = title_of(template, TEMPLATE_CHARS_MAX)
    times, since = episode.counted.count, clock(episode.start_ms)
    often = "once" if times == 1 else f"{times:,} times"
    match episode.kind:
        case "error_pattern_new":
            head = f"{service} logs a new {what} {often} since {since}: {said}"
        case "error_pattern_returned":
            head = f"{service} logs an old {what} again after {measures['away_h']:.1f} h, {often} since {since}: {said}"
        case "error_pattern_surge":
            rates = f"{measures['lines_per_min']:.3g}/min, usually {measures['lines_per_min_usual']:.2g}"
            head = f"{service} logs {rates}, since {since}: {said}"
    where = f"; on host {hosts[0].name} ({hosts[0].share:.0%})" if hosts and hosts[0].share >= CARRIED_SHARE_MIN else ""
    return head + where + (f"; trace {traces[0].trace_id}" if traces else "")


def _severity(number: int) -> Severity:
    return "critical" if number >= FATAL else "warning" if number >= ERROR else "info"
