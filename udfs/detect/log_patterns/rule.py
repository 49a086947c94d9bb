"""The pattern rule: a pane of lines moves a service's registry, and opens, follows and closes insights about patterns.

New is what was never registered, once the service has been heard for long enough; returned is what was registered and
away for long; a surge is far more of a known pattern than usual, in relation to what the service says besides.
Everything is a value: what goes in is not changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from typing import Final, NamedTuple

import msgspec

from state_schemas.aggregates.logs import OTHER_PATTERNS, LogBlock, PatternCount
from state_schemas.contracts.insight import Insight
from state_schemas.state.log_patterns import (
    LineRate,
    PatternEpisode,
    PatternKind,
    PatternOverflow,
    PatternsLearnt,
    Registered,
    ServiceLines,
)
from udfs.activity import merge_ranges
from udfs.detect.log_patterns.rate import (
    MINUTE_MS,
    forget_recent,
    heard,
    load,
    observe_pane,
    observe_silence,
    surge_of,
    usual_lines,
)
from udfs.detect.log_patterns.registry import canonical, register, tombstones
from udfs.detect.log_patterns.report import FATAL, report
from udfs.logs.template import merge_texts
from udfs.logs.window import merge_counts
from udfs.service_info import merge_info
from udfs.stats.poisson_change import ChangeConfig

__all__ = ["PaneOfLines", "PatternConfig", "expire_patterns", "watch_lines"]

GONE: Final = "no more lines"
UNSEEN: Final = "not seen again"
JOINED: Final = "it is one with another pattern"
KNOWN: Final = "it has stayed: it is known now"
RECOVERED: Final = "back to its usual rate"
OVERFLOW_QUIET_MS: Final = 3_600_000
OVERFLOWS_MAX: Final = 24


@dataclass(frozen=True, slots=True)
class PatternConfig:
    """Minutes are those in which the service was heard, each heard_ms as a whole, so that silence teaches nothing.

    warm_minutes: until then patterns are registered without a word. away_minutes: a pattern unseen for so many, and
    for twice as long as ever before, has returned; it may go where room is short. patterns_max: registered at once.
    nats_close: for what is usual, to close a surge. lines_min: of a new or returned pattern before it is told; a fatal
    one is told at once. news_max: of those told and open at once; in a storm of new patterns the rest is registered
    without a word. silence_counts: panes without lines, in minutes heard, tell how often lines come: of spans. seeds:
    ids of patterns that are never new. quiet_ms: unseen for so long, an insight closes; accept_ms: open for so long,
    what it says is the new normal.
    """

    warm_minutes: int = 10
    away_minutes: int = 60
    patterns_max: int = 1_000
    change: ChangeConfig = field(default_factory=ChangeConfig)
    nats_close: float = 6.0
    lines_min: int = 2
    news_max: int = 10
    silence_counts: bool = False
    heard_ms: int = MINUTE_MS
    seeds: frozenset[str] = frozenset()
    quiet_ms: int = 600_000
    accept_ms: int = 1_800_000

    @property
    def heard_minutes(self) -> int:
        """What one stretch heard adds to the minutes."""
        return self.heard_ms // MINUTE_MS


class PaneOfLines(NamedTuple):
    """Lines of a service in [start_ms, end_ms)."""

    env: str
    service: str
    start_ms: int
    end_ms: int
    block: LogBlock


class _Now(NamedTuple):
    """A pane in its place: minutes heard with it; service: its lines with those of the pane."""

    pane: PaneOfLines
    minutes: int
    service: ServiceLines


class _Followed(NamedTuple):
    """episode: None where it has ended."""

    entry: Registered
    episode: PatternEpisode | None
    draft: Insight | None


class _Named(NamedTuple):
    """The registry with the pane's patterns; its loud lines that have room there, by canonical id; ids that are new.

    is_short: whether some had no room.
    """

    entries: dict[str, Registered]
    found: dict[str, PatternCount]
    added: frozenset[str]
    is_short: bool


def watch_lines(
    learnt: PatternsLearnt, pane: PaneOfLines, config: PatternConfig
) -> tuple[PatternsLearnt, list[Insight]]:
    """What is known after the pane, and what it announces; one without lines is time heard. O(registry + patterns)."""
    minute = pane.start_ms // config.heard_ms
    quiet = sum(counted.count for counted in pane.block.patterns if not counted.loud)
    minutes = learnt.minutes + (minute != learnt.minute) * config.heard_minutes
    service = learnt.lines
    if pane.block.patterns:  # else it only says that the service is there
        if config.silence_counts:
            service = observe_silence(service, minutes, pane.start_ms, pane.end_ms, config.heard_ms, config.change)
        service = observe_pane(service, pane.start_ms, quiet, config.change)
    now = _Now(pane, minutes, service)
    named = _named(learnt.registry, now, config)
    entries = named.entries
    before, drafts = _moved(learnt, named, now)
    episodes: dict[str, PatternEpisode] = {}
    room = config.news_max - sum(map(_is_news, before.values()))
    for name, counted in sorted({**dict.fromkeys(before), **named.found}.items()):
        if name in before:
            followed = _follow(before[name], entries[name], counted, now, config, has_room=room > 0)
            room += _is_news(before[name])
            entries[name] = _seen(followed.entry, counted, now) if counted else followed.entry
        else:
            assert counted is not None, "a pattern without an episode is looked at for its lines"
            followed = _begun(learnt, named, name, now, config, has_room=room > 0)
            entries[name] = followed.entry
        room -= _is_news(followed.episode)
        drafts += [followed.draft] if followed.draft else []
        if followed.episode is not None:
            episodes[name] = followed.episode
    after = PatternsLearnt(
        registry=entries,
        gone=tombstones(learnt, entries),
        episodes=episodes,
        minutes=now.minutes,
        minute=minute,
        overflows=learnt.overflows,
        overflow_ms=learnt.overflow_ms,
        lines=service,
        last_end_ms=pane.end_ms,
    )
    return _with_overflow(after, pane) if named.is_short else after, drafts


def _moved(learnt: PatternsLearnt, named: _Named, now: _Now) -> tuple[dict[str, PatternEpisode], list[Insight]]:
    """The open episodes by what their patterns are called now: of what has become one the oldest goes on."""
    pane, entries = now.pane, named.entries
    kept: dict[str, PatternEpisode] = {}
    drafts: list[Insight] = []
    ordered = sorted(learnt.episodes.items(), key=lambda item: (not item[1].told, item[1].start_ms, item[0]))
    for name, episode in ordered:
        target = canonical(entries, name, ())
        if target not in kept:
            kept[target] = episode
        elif episode.told:
            drafts.append(report(pane.env, pane.service, episode, entries[name], "closed", JOINED))
    return kept, drafts


def _is_news(episode: PatternEpisode | None) -> bool:
    """Whether it is told of a new or returned pattern."""
    return episode is not None and episode.told and episode.kind != "error_pattern_surge"


def _with_overflow(learnt: PatternsLearnt, pane: PaneOfLines) -> PatternsLearnt:
    overflows = learnt.overflows
    if not learnt.overflow_ms or pane.start_ms - learnt.overflow_ms >= OVERFLOW_QUIET_MS:
        overflows = (*overflows, PatternOverflow(pane.start_ms, pane.block.ranges))[-OVERFLOWS_MAX:]
    return msgspec.structs.replace(learnt, overflows=overflows, overflow_ms=pane.start_ms)


def expire_patterns(learnt: PatternsLearnt, env: str, service: str) -> list[Insight]:
    """Closing drafts of what is open when a service is forgotten."""
    return [
        report(env, service, episode, learnt.registry[name], "closed", GONE)
        for name, episode in sorted(learnt.episodes.items())
        if episode.told
    ]


def _named(known: Mapping[str, Registered], now: _Now, config: PatternConfig) -> _Named:
    loud = [counted for counted in now.pane.block.patterns if counted.loud and counted.pattern_id != OTHER_PATTERNS]
    names = {counted.pattern_id: canonical(known, counted.pattern_id, counted.texts) for counted in loud}
    fresh = {
        counted.pattern_id: Registered(counted.texts, now.pane.start_ms, now.pane.start_ms, now.minutes)
        for counted in loud
        if names[counted.pattern_id] not in known
    }
    here = set(names.values())
    registry = register(_with_room(known, here, len(fresh), now.minutes, config), fresh, config.patterns_max)
    found: dict[str, PatternCount] = {}
    for counted in loud:
        if counted.pattern_id in registry.refused:
            continue
        name = canonical(registry.entries, counted.pattern_id, counted.texts)
        as_one = msgspec.structs.replace(
            counted, pattern_id=name, texts=() if name != counted.pattern_id else counted.texts
        )
        found[name] = merge_counts(found[name], as_one) if name in found else as_one
    beyond = any(counted.loud and counted.pattern_id == OTHER_PATTERNS for counted in now.pane.block.patterns)
    is_short = beyond or bool(registry.refused)
    return _Named(registry.entries, dict(sorted(found.items())), frozenset(registry.added), is_short)


def _with_room(
    known: Mapping[str, Registered], here: set[str], wanted: int, minutes: int, config: PatternConfig
) -> dict[str, Registered]:
    """The registry with room for so many more, as far as patterns are away for long: those go, none that is here."""
    short = len(known) + wanted - config.patterns_max
    if not wanted or short <= 0:
        return dict(known)
    away = sorted(
        (entry.last_minute, name)
        for name, entry in known.items()
        if minutes - entry.last_minute > config.away_minutes and name not in here and entry.alias_of not in here
    )
    gone = {name for _, name in away[:short]}
    return {name: entry for name, entry in known.items() if name not in gone and entry.alias_of not in gone}


def _begun(
    learnt: PatternsLearnt, named: _Named, name: str, now: _Now, config: PatternConfig, *, has_room: bool
) -> _Followed:
    """A pattern after its lines of this pane, and the episode that begins with them."""
    counted, pane = named.found[name], now.pane
    opened = _opened(learnt, named, name, now, config)
    entry, surge = _weighed(_seen(named.entries[name], counted, now), counted, now, len(named.entries), config)
    opened = opened or surge
    if opened is None or now.minutes - config.heard_minutes < config.warm_minutes:
        return _Followed(entry, None, None)
    if opened.kind != "error_pattern_surge" and not has_room:
        opened = msgspec.structs.replace(opened, told=False)
    entry = msgspec.structs.replace(entry, rate=forget_recent(entry.rate, now.service, config.change))
    return _Followed(entry, opened, report(pane.env, pane.service, opened, entry, "open") if opened.told else None)


def _opened(
    learnt: PatternsLearnt, named: _Named, name: str, now: _Now, config: PatternConfig
) -> PatternEpisode | None:
    """What a pattern's appearance says by itself: that it is new, or back."""
    start_ms = now.pane.start_ms
    before = learnt.registry.get(name)
    if config.seeds and _is_seeded(named.entries, name, config.seeds):
        return None
    if name in named.added:
        away_ms = start_ms - learnt.gone[name] if name in learnt.gone else 0
        kind: PatternKind = "error_pattern_returned" if away_ms else "error_pattern_new"
        return _told_if(_episode(kind, named.found[name], now, away_ms), config)
    # At least: it may have been seen last at the end of a stretch, and this be the begin of one.
    away_minutes = now.minutes - before.last_minute - config.heard_minutes + 1 if before else 0
    if before is not None and away_minutes > max(config.away_minutes, 2 * before.away_minutes_max):
        returned = _episode("error_pattern_returned", named.found[name], now, start_ms - before.last_seen_ms)
        return _told_if(returned, config)
    return None


def _is_seeded(entries: Mapping[str, Registered], name: str, seeds: frozenset[str]) -> bool:
    return name in seeds or any(entry.alias_of == name and part in seeds for part, entry in entries.items())


def _told_if(episode: PatternEpisode, config: PatternConfig) -> PatternEpisode:
    """Whether there are enough lines to tell of it."""
    counted = episode.counted
    told = counted.count >= config.lines_min or counted.severity >= FATAL
    return msgspec.structs.replace(episode, told=told)


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
        away_minutes_max=max(entry.away_minutes_max, now.minutes - entry.last_minute),
        count=entry.count + counted.count,
    )


def _weighed(
    entry: Registered, counted: PatternCount, now: _Now, tests: int, config: PatternConfig
) -> tuple[Registered, PatternEpisode | None]:
    """The entry after its lines of this pane, and an episode where they are a surge."""
    service, change = now.service, config.change
    entry = msgspec.structs.replace(entry, rate=heard(entry.rate, service, counted.count, change))
    surge = surge_of(entry.rate, service, change)
    if surge is None or surge.nats < change.nats_open + log(tests):
        return entry, None
    episode = _episode("error_pattern_surge", msgspec.structs.replace(counted, count=surge.lines), now)
    start_ms = service.recent[-surge.panes][0]
    usual = usual_lines(entry.rate, service, change)
    return entry, msgspec.structs.replace(episode, start_ms=start_ms, usual=usual, panes=surge.panes)


def _follow(
    episode: PatternEpisode,
    entry: Registered,
    counted: PatternCount | None,
    now: _Now,
    config: PatternConfig,
    *,
    has_room: bool,
) -> _Followed:
    """Open: close it, accept it, or say how it goes at 3, 6, 12, 24 ... panes."""
    if now.pane.start_ms - episode.end_ms >= config.quiet_ms:
        return _closed(episode, entry, UNSEEN, now, config)
    pane, of_surge, change = now.pane, episode.kind == "error_pattern_surge", config.change
    lines = counted.count if counted else 0
    nats = float(lines)
    if of_surge:
        usual = usual_lines(entry.rate, now.service, change) * load(now.service)
        nats = lines * log(change.factor) - usual * (change.factor - 1)
    recovery = max(0.0, episode.recovery - nats) if of_surge else 0.0
    if recovery >= config.nats_close:
        return _closed(episode, entry, RECOVERED, now, config)
    if counted is None or nats <= 0:
        return _Followed(entry, msgspec.structs.replace(episode, recovery=recovery), None)
    after = msgspec.structs.replace(
        episode,
        end_ms=pane.end_ms,
        counted=merge_counts(episode.counted, _named_as(episode, counted)),
        facts=merge_info((episode.facts, pane.block.facts)),
        ranges=merge_ranges((*episode.ranges, *pane.block.ranges)),
        recovery=recovery,
        panes=episode.panes + 1,
    )
    if after.end_ms - after.start_ms >= config.accept_ms:
        return _closed(after, entry, KNOWN, now, config)
    if not episode.told:
        after = _told_if(after, config) if has_room else after
        opening = report(pane.env, pane.service, after, entry, "open") if after.told else None
        return _Followed(entry, after, opening)
    thirds, rest = divmod(after.panes, 3)
    if rest or thirds & (thirds - 1):
        return _Followed(entry, after, None)
    return _Followed(entry, after, report(pane.env, pane.service, after, entry, "updated"))


def _named_as(episode: PatternEpisode, counted: PatternCount) -> PatternCount:
    """Lines under the name that the episode began with, which may have become part of a wider pattern."""
    name = episode.counted.pattern_id
    if counted.pattern_id == name:
        return counted
    return msgspec.structs.replace(counted, pattern_id=name, texts=())


def _closed(episode: PatternEpisode, entry: Registered, reason: str, now: _Now, config: PatternConfig) -> _Followed:
    """What was counted meanwhile teaches no rate, unless it is the new normal."""
    pane, service = now.pane, now.service
    draft = report(pane.env, pane.service, episode, entry, "closed", reason) if episode.told else None
    rate = forget_recent(entry.rate, service, config.change)
    if reason == KNOWN:
        panes = (episode.end_ms - episode.start_ms) / episode.pane_ms
        mean, heard_panes = episode.counted.count / panes, max(1.0, service.past_panes)
        rate = LineRate(mean * heard_panes, mean * (mean + 1) * heard_panes, rate.as_of)
    return _Followed(msgspec.structs.replace(entry, rate=rate), None, draft)
