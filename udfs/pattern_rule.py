"""The pattern rule: a pane of lines moves a service's registry, and opens, follows and closes insights about patterns.

New is what was never registered, once the service has been heard for long enough; returned is what was registered and
away for long; a surge is far more of a known pattern than usual, in relation to all the service says. Everything is a
value: what goes in is not changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from typing import Final, NamedTuple

import msgspec

from state_schemas.insights import Insight
from state_schemas.patterns import (
    OTHER_PATTERNS,
    LineRate,
    LogBlock,
    PatternCount,
    PatternEpisode,
    PatternKind,
    PatternsLearnt,
    Registered,
    SurgeSuspicion,
)
from udfs.line_rates import RateConfig, is_known, observe, surge_nats, usual_lines
from udfs.log_blocks import line_count, merge_counts
from udfs.partials import merge_ranges
from udfs.pattern_registry import canonical, register
from udfs.pattern_report import report
from udfs.templates import merge_texts

__all__ = ["PaneOfLines", "PatternConfig", "expire_patterns", "watch_lines"]

GONE: Final = "no more lines"
UNSEEN: Final = "not seen again"
KNOWN: Final = "it has stayed: it is known now"
RECOVERED: Final = "back to its usual rate"
MINUTE_MS: Final = 60_000
TOMBSTONES_MAX: Final = 4_000


@dataclass(frozen=True, slots=True)
class PatternConfig:
    """Minutes are those in which the service was heard, so that silence teaches nothing.

    warm_minutes: until then patterns are registered without a word. away_minutes: a pattern unseen for so many has
    returned, and may go where room is short. patterns_max: registered at once. score_open, score_close: nats.
    quiet_ms: unseen for so long, an insight closes; accept_ms: open for so long, what it says is the new normal.
    """

    warm_minutes: int = 10
    away_minutes: int = 60
    patterns_max: int = 1_000
    rates: RateConfig = field(default_factory=RateConfig)
    score_open: float = 12.0
    score_close: float = 12.0
    quiet_ms: int = 600_000
    accept_ms: int = 1_800_000


class PaneOfLines(NamedTuple):
    """Lines of a service in [start_ms, end_ms)."""

    env: str
    service: str
    start_ms: int
    end_ms: int
    block: LogBlock


class _Now(NamedTuple):
    """A pane in its place: minutes heard with it, its number; load: its lines in terms of usual, at least 1."""

    pane: PaneOfLines
    minutes: int
    number: int
    load: float


class _Named(NamedTuple):
    """The registry with the pane's patterns; its loud lines that have room there, by canonical id; ids that are new."""

    entries: dict[str, Registered]
    found: dict[str, PatternCount]
    added: frozenset[str]


def watch_lines(
    learnt: PatternsLearnt, pane: PaneOfLines, config: PatternConfig
) -> tuple[PatternsLearnt, list[Insight]]:
    """What is known after the pane, and what it announces. O(registry + patterns)."""
    minute = pane.start_ms // MINUTE_MS
    lines = line_count(pane.block)
    usual = usual_lines(learnt.lines, learnt.panes, config.rates)
    now = _Now(pane, learnt.minutes + (minute != learnt.minute), learnt.panes, max(1.0, lines / usual))
    named = _named(learnt.registry, now, config)
    entries, episodes = named.entries, dict(learnt.episodes)
    drafts: list[Insight] = []
    for name in sorted(episodes):
        followed = _follow(episodes.pop(name), entries[name], named.found.get(name), now, config)
        entries[name] = followed.entry
        drafts += [followed.draft] if followed.draft else []
        if followed.episode is not None:
            episodes[name] = followed.episode
    for name, counted in named.found.items():
        opened = _opened(learnt, named, name, now, config)
        entries[name] = _seen(entries[name], counted, now)
        if name not in episodes:
            entries[name], surge = _weighed(entries[name], counted, now, len(entries), config)
            opened = opened or surge
        if opened is not None and name not in episodes and now.minutes > config.warm_minutes:
            episodes[name] = opened
            drafts.append(report(pane.env, pane.service, opened, entries[name], "open"))
    for name in [name for name, entry in entries.items() if entry.surge and name not in named.found]:
        entries[name] = _absent(entries[name], now, config)
    after = PatternsLearnt(
        registry=entries,
        gone=_tombstones(learnt, entries),
        episodes=episodes,
        minutes=now.minutes,
        minute=minute,
        panes=now.number + 1,
        lines=observe(learnt.lines, now.number, lines, config.rates),
        last_end_ms=pane.end_ms,
    )
    return after, drafts


def expire_patterns(learnt: PatternsLearnt, env: str, service: str) -> list[Insight]:
    """Closing drafts of what is open when a service is forgotten."""
    return [
        report(env, service, episode, learnt.registry[name], "closed", GONE)
        for name, episode in sorted(learnt.episodes.items())
    ]


def _named(known: Mapping[str, Registered], now: _Now, config: PatternConfig) -> _Named:
    loud = [counted for counted in now.pane.block.patterns if counted.loud and counted.pattern_id != OTHER_PATTERNS]
    fresh = {
        counted.pattern_id: Registered(
            counted.texts, now.pane.start_ms, now.pane.start_ms, now.minutes, rate=LineRate(as_of=now.number)
        )
        for counted in loud
        if canonical(known, counted.pattern_id, counted.texts) not in known
    }
    registry = register(_with_room(known, len(fresh), now.minutes, config), fresh, config.patterns_max)
    found: dict[str, PatternCount] = {}
    for counted in loud:
        if counted.pattern_id in registry.refused:
            continue
        name = canonical(registry.entries, counted.pattern_id, counted.texts)
        as_one = msgspec.structs.replace(
            counted, pattern_id=name, texts=() if name != counted.pattern_id else counted.texts
        )
        found[name] = merge_counts(found[name], as_one) if name in found else as_one
    return _Named(registry.entries, dict(sorted(found.items())), frozenset(registry.added))


def _with_room(
    known: Mapping[str, Registered], wanted: int, minutes: int, config: PatternConfig
) -> dict[str, Registered]:
    """The registry with room for so many more, as far as patterns have been away for long: those go first."""
    short = len(known) + wanted - config.patterns_max
    if not wanted or short <= 0:
        return dict(known)
    away = sorted(
        (entry.last_minute, name) for name, entry in known.items() if minutes - entry.last_minute > config.away_minutes
    )
    gone = {name for _, name in away[:short]}
    return {name: entry for name, entry in known.items() if name not in gone and entry.alias_of not in gone}


def _tombstones(learnt: PatternsLearnt, entries: Mapping[str, Registered]) -> dict[str, int]:
    """When patterns that are no longer registered were last seen; of too many the newest."""
    left = learnt.registry.keys() - entries.keys()
    if not left and not learnt.gone:
        return {}
    gone = {name: seen_ms for name, seen_ms in learnt.gone.items() if name not in entries}
    gone |= {name: learnt.registry[name].last_seen_ms for name in sorted(left)}
    if len(gone) <= TOMBSTONES_MAX:
        return gone
    return dict(sorted(gone.items(), key=lambda item: (-item[1], item[0]))[:TOMBSTONES_MAX])


def _opened(
    learnt: PatternsLearnt, named: _Named, name: str, now: _Now, config: PatternConfig
) -> PatternEpisode | None:
    """What a pattern's appearance says by itself: that it is new, or back."""
    start_ms = now.pane.start_ms
    before = learnt.registry.get(name)
    if name in named.added:
        away_ms = start_ms - learnt.gone[name] if name in learnt.gone else 0
        return _episode("error_pattern_returned" if away_ms else "error_pattern_new", named.found[name], now, away_ms)
    if before is not None and now.minutes - before.last_minute > config.away_minutes:
        return _episode("error_pattern_returned", named.found[name], now, start_ms - before.last_seen_ms)
    return None


def _episode(kind: PatternKind, counted: PatternCount, now: _Now, away_ms: int = 0) -> PatternEpisode:
    pane = now.pane
    pane_ms = pane.end_ms - pane.start_ms
    return PatternEpisode(
        kind, pane.start_ms, pane.end_ms, counted, pane.block.facts, pane.block.ranges, pane_ms, absent_ms=away_ms
    )


def _seen(entry: Registered, counted: PatternCount, now: _Now) -> Registered:
    known_texts = entry.wide or not counted.texts
    return msgspec.structs.replace(
        entry,
        texts=entry.texts if known_texts else merge_texts(entry.texts, counted.texts),
        last_seen_ms=now.pane.start_ms,
        last_minute=now.minutes,
        count=entry.count + counted.count,
    )


def _weighed(
    entry: Registered, counted: PatternCount, now: _Now, tests: int, config: PatternConfig
) -> tuple[Registered, PatternEpisode | None]:
    """The entry after its lines of this pane, and an episode where they are a surge."""
    rates, pane = config.rates, now.pane
    usual = usual_lines(entry.rate, now.number, rates)
    before = entry.surge or SurgeSuspicion(0.0, pane.start_ms, 0, ())
    score = max(0.0, before.score + surge_nats(counted.count, usual * now.load, rates))
    lines = before.lines + counted.count
    if score <= 0 or not is_known(entry.rate, now.number, rates):
        return msgspec.structs.replace(entry, rate=observe(entry.rate, now.number, lines, rates), surge=None), None
    ranges = merge_ranges((*before.ranges, *pane.block.ranges))
    if score < config.score_open + log(tests):
        suspicion = SurgeSuspicion(score, before.start_ms, lines, ranges)
        return msgspec.structs.replace(entry, surge=suspicion), None
    counted = msgspec.structs.replace(counted, count=lines)
    surge = _episode("error_pattern_surge", counted, now)
    surge = msgspec.structs.replace(surge, start_ms=before.start_ms, ranges=ranges, usual=usual)
    return msgspec.structs.replace(entry, surge=None), surge


def _absent(entry: Registered, now: _Now, config: PatternConfig) -> Registered:
    """A pattern suspected of a surge, in a pane without it."""
    assert entry.surge is not None, "only suspected patterns are looked at in panes without them"
    usual = usual_lines(entry.rate, now.number, config.rates)
    score = entry.surge.score + surge_nats(0, usual * now.load, config.rates)
    if score > 0:
        return msgspec.structs.replace(entry, surge=msgspec.structs.replace(entry.surge, score=score))
    rate = observe(entry.rate, now.number, entry.surge.lines, config.rates)
    return msgspec.structs.replace(entry, rate=rate, surge=None)


class _Followed(NamedTuple):
    """episode: None where it has ended."""

    entry: Registered
    episode: PatternEpisode | None
    draft: Insight | None


def _follow(
    episode: PatternEpisode, entry: Registered, counted: PatternCount | None, now: _Now, config: PatternConfig
) -> _Followed:
    """Open: close it, accept it, or say how it goes at 3, 6, 12, 24 ... panes."""
    pane, of_surge = now.pane, episode.kind == "error_pattern_surge"
    lines = counted.count if counted else 0
    nats = surge_nats(lines, episode.usual * now.load, config.rates) if of_surge else float(lines)
    recovery = max(0.0, episode.recovery - nats) if of_surge else 0.0
    if recovery >= config.score_close:
        return _closed(episode, entry, RECOVERED, now)
    if counted is None or nats <= 0:
        if pane.start_ms - episode.end_ms >= config.quiet_ms:
            return _closed(episode, entry, UNSEEN, now)
        return _Followed(entry, msgspec.structs.replace(episode, recovery=recovery), None)
    after = msgspec.structs.replace(
        episode,
        end_ms=pane.end_ms,
        counted=merge_counts(episode.counted, counted),
        facts=max(episode.facts, pane.block.facts),
        ranges=merge_ranges((*episode.ranges, *pane.block.ranges)),
        recovery=recovery,
        panes=episode.panes + 1,
    )
    if after.end_ms - after.start_ms >= config.accept_ms:
        return _closed(after, entry, KNOWN, now)
    thirds, rest = divmod(after.panes, 3)
    if rest or thirds & (thirds - 1):
        return _Followed(entry, after, None)
    return _Followed(entry, after, report(pane.env, pane.service, after, entry, "updated"))


def _closed(episode: PatternEpisode, entry: Registered, reason: str, now: _Now) -> _Followed:
    """What was counted meanwhile teaches no rate, unless it is the new normal."""
    pane = now.pane
    draft = report(pane.env, pane.service, episode, entry, "closed", reason)
    rate = msgspec.structs.replace(entry.rate, as_of=now.number)
    if reason == KNOWN:
        panes = (episode.end_ms - episode.start_ms) / episode.pane_ms
        rate = LineRate(float(episode.counted.count), panes, now.number)
    return _Followed(msgspec.structs.replace(entry, rate=rate), None, draft)
