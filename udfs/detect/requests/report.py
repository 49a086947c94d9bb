"""Candidates of insights about a changed number of lines or calls per request."""

from typing import Final

from state_schemas.aggregates.requests import CALL, LINE
from state_schemas.aggregates.spans import Exemplar
from state_schemas.contracts.insight import Contribution, Evidence, Insight, TraceExemplar
from state_schemas.state.requests import EffectEpisode
from udfs.detect.finding import Finding
from udfs.detect.lifecycle import Course
from udfs.detect.service_window import ServiceKey
from udfs.insights.wording import clock, kafka_ranges, rate, title_of

__all__ = ["report", "subject_of_effect"]

TEMPLATE_CHARS_MAX: Final = 200
NAMED_MAX: Final = 20  # lines named in one insight, and calls
_NS_PER_MS: Final = 1e6


def report(key: ServiceKey, episode: EffectEpisode, templates: dict[str, str], course: Course) -> Insight:
    """Return the insight of an episode. templates: by name of the effect, of lines only."""
    first = episode.members[0]
    of_lines = first.name.startswith(LINE)
    subject = subject_of_effect(first.name)
    effect = templates.get(first.name, "") if of_lines else subject
    return Finding(
        kind=episode.kind,
        subject=subject,
        start_ms=episode.start_ms,
        end_ms=episode.end_ms,
        severity="warning",
        confidence=0.8,
        text=_text(episode, effect),
        measures=_measures(episode),
        evidence=Evidence(
            traces=tuple(_sample(trace) for trace in episode.traces),
            operations=_calls(episode),
            sample_lines=tuple(templates[part.name] for part in episode.members if part.name in templates)[:NAMED_MAX],
            template=effect if of_lines else "",
            kafka=kafka_ranges(episode.ranges),
            expected=_expected(episode, effect),
        ),
        info=episode.info,
    ).candidate(key, course)


def subject_of_effect(name: str) -> str:
    """Return the pattern id of a line, or the operation of a call."""
    if name.startswith(LINE):
        return name.removeprefix(LINE)
    return name.removeprefix(CALL).partition("|")[2]


def _measures(episode: EffectEpisode) -> dict[str, float]:
    first = episode.members[0]
    unit = "lines" if first.name.startswith(LINE) else "calls"
    requests = max(1, episode.requests)
    return {
        unit: first.count,
        f"{unit}_usual": round(first.expected, 3),
        f"{unit}_per_request": round(first.count / requests, 4),
        f"{unit}_per_request_usual": round(first.expected / requests, 4),
        f"{unit}_ratio": round(first.count / max(first.expected, 1), 4),
        "requests": float(episode.requests),
        "effects": float(len(episode.members)),
        "counted_s": float(episode.windows * episode.window_ms // 1000),
        "silent_s": float(episode.silent * episode.window_ms // 1000),
    }


def _calls(episode: EffectEpisode) -> tuple[Contribution, ...]:
    """Rank the changed calls by their share of the change."""
    calls = [member for member in episode.members if member.name.startswith(CALL)]
    changed = [abs(member.expected - member.count) for member in calls]
    usual = sum(member.expected for member in calls)
    ranked = sorted(zip(changed, calls, strict=True), key=lambda item: (-item[0], item[1].name))
    return tuple(
        Contribution(
            name=subject_of_effect(member.name),
            share=round(change / max(sum(changed), 1e-9), 4),
            traffic_share=round(member.expected / max(usual, 1e-9), 4),
            spans=int(member.count),
        )
        for change, member in ranked[:NAMED_MAX]
    )


def _sample(trace: Exemplar) -> TraceExemplar:
    return TraceExemplar(
        role="sample",
        trace_id=trace.trace_id,
        latency_ms=round(trace.duration_ns / _NS_PER_MS, 6),
        host=trace.host,
        operation=trace.operation,
    )


def _text(episode: EffectEpisode, effect: str) -> str:
    first, requests = episode.members[0], max(1, episode.requests)
    if first.more:
        change = f"calls {rate(first.count / requests)} per request (usually {rate(first.expected / requests)})"
    else:
        noun = "line" if first.name.startswith(LINE) else "call"
        counts = f"{first.count:,.0f} in {episode.requests:,} requests (usually {first.expected:,.0f})"
        change = f"{noun} missing: {counts}"
    others = len(episode.members) - 1
    more = f", and {others} more line{'s' if others > 1 else ''} or call{'s' if others > 1 else ''}" if others else ""
    return f"{change} since {clock(episode.start_ms)}: {title_of(effect, TEMPLATE_CHARS_MAX)}{more}"


def _expected(episode: EffectEpisode, effect: str) -> str:
    first = episode.members[0]
    seen = (
        f"last seen in the window of {clock(first.last_seen_ms)}"
        if first.last_seen_ms
        else "not seen since it is watched"
    )
    return f"{first.expected:,.1f} times {effect} with {episode.requests:,} requests; {seen}"
