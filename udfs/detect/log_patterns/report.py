"""Insight of a pattern episode: measures, the hosts that log the pattern, and its title."""

from typing import Final

import msgspec

from state_schemas.aggregates.logs import LineSource
from state_schemas.contracts.insight import Contribution, Evidence, Insight, Severity, TraceExemplar
from state_schemas.state.log_patterns import PatternEpisode, Registered
from udfs.detect.finding import Finding
from udfs.detect.latency.report import CARRIED_SHARE_MIN
from udfs.detect.lifecycle import Course
from udfs.detect.service_window import ServiceKey
from udfs.insights.wording import clock, kafka_ranges, percent, rate, title_of
from udfs.logs.template import template_of

ERROR: Final = 17
FATAL: Final = 21
TEMPLATE_CHARS_MAX: Final = 200
VERSION_CHARS_MAX: Final = 40
HOUR_MS: Final = 3_600_000


def report(key: ServiceKey, episode: PatternEpisode, entry: Registered, course: Course, source: LineSource) -> Insight:
    """Return the insight of an episode. entry: that of its pattern.

    Exceptions of spans have a subject, and therefore ids, of their own: `<pattern id>@spans`.
    """
    counted = episode.counted
    measures = _measures(episode)
    evidence = _evidence(episode, entry)
    info = episode.info
    if evidence.version_before and info.version != episode.version:
        # The newest record is of another version, and so may its image be.
        info = msgspec.structs.replace(info, version=episode.version, image="")
    return Finding(
        kind=episode.kind,
        subject=counted.pattern_id if source == "logs" else f"{counted.pattern_id}@{source}",
        start_ms=episode.start_ms,
        end_ms=episode.end_ms,
        severity=_severity(counted.severity),
        confidence=0.9,
        text=_text(_change(episode, measures, source), episode, evidence),
        measures=measures,
        evidence=evidence,
        info=info,
    ).candidate(key, course)


def _evidence(episode: PatternEpisode, entry: Registered) -> Evidence:
    samples = episode.counted.samples
    traces = tuple(
        TraceExemplar(role="sample", trace_id=trace_id, latency_ms=0.0, host=host, operation="")
        for trace_id, host in dict.fromkeys((sample.trace_id, sample.host) for sample in samples)
        if len(trace_id) == 32
    )
    # As long as all its lines are of the version, and it is not part of a pattern that was there before.
    is_claimed = episode.counted.versions == (episode.version,) and entry.first_seen_ms >= episode.start_ms
    return Evidence(
        traces=traces,
        hosts=_hosts(episode),
        sample_lines=tuple(dict.fromkeys(sample.line for sample in samples)),
        template=template_of(entry.texts),
        kafka=kafka_ranges(episode.ranges),
        version_before=episode.version_before if is_claimed else "",
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


def _change(episode: PatternEpisode, measures: dict[str, float], source: LineSource) -> str:
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


def _text(change: str, episode: PatternEpisode, evidence: Evidence) -> str:
    text = f"{change} since {clock(episode.start_ms)}"
    if evidence.version_before:
        text += f", new since version {title_of(episode.version, VERSION_CHARS_MAX)}"
    text += f": {title_of(evidence.template, TEMPLATE_CHARS_MAX)}"
    if evidence.hosts and evidence.hosts[0].share >= CARRIED_SHARE_MIN:
        text += f"; on host {evidence.hosts[0].name} ({percent(evidence.hosts[0].share)})"
    return text + (f"; trace {evidence.traces[0].trace_id}" if evidence.traces else "")


def _severity(number: int) -> Severity:
    return "critical" if number >= FATAL else "warning" if number >= ERROR else "info"
