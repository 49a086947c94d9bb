"""Log pattern rule: one window of lines updates the registry of a service and its episodes.

A pattern is new if it was never registered, once the service has been active for warm_minutes. It has returned if it
was registered and not seen for long. A surge is a rate of a known pattern far above the usual one, relative to the
other lines of the service. All functions are pure: arguments are not changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from typing import Final, NamedTuple

import msgspec

from state_schemas.aggregates.logs import OTHER_PATTERNS, LineSource, LogTable, PatternCount
from state_schemas.contracts.insight import Insight, Status
from state_schemas.state.log_patterns import (
    LineRate,
    LogPatternModel,
    PatternEpisode,
    PatternKind,
    Registered,
    ServiceLines,
)
from udfs.activity import merge_ranges
from udfs.detect.log_patterns.rate import (
    MINUTE_MS,
    forget_recent,
    load,
    observe_silence,
    observe_window,
    surge_of,
    usual_lines,
    with_lines,
)
from udfs.detect.log_patterns.registry import canonical, evicted_patterns, register
from udfs.detect.log_patterns.report import FATAL, report
from udfs.detect.service_window import ServiceWindow
from udfs.logs.template import merge_texts
from udfs.logs.window import merge_counts
from udfs.service_info import merge_info
from udfs.stats.poisson_change import ChangeConfig

__all__ = ["PatternConfig", "evaluate_lines", "expire_patterns"]

EXPIRED: Final = "no more lines"
UNSEEN: Final = "not seen again"
JOINED: Final = "merged with another pattern"
KNOWN: Final = "the pattern has stayed: it is known now"
RECOVERED: Final = "back to its usual rate"


@dataclass(frozen=True, slots=True)
class PatternConfig:
    """Settings of the log pattern rule. Minutes are minutes in which the service was active, so gaps do not count."""

    warm_minutes: int = 10  # until then, patterns are registered without an insight
    # A pattern not seen for so many minutes, and twice as long as ever before, has returned. It can be evicted.
    away_minutes: int = 60
    patterns_max: int = 1_000  # patterns in the registry
    change: ChangeConfig = field(default_factory=ChangeConfig)  # test that opens a surge
    nats_close: float = 6.0  # nats of evidence for the usual rate that close a surge
    # Lines of a new or returned pattern before an insight is emitted; a FATAL line is emitted at once.
    lines_min: int = 2
    # Visible insights of new or returned patterns at the same time; further patterns are registered without one.
    new_patterns_max: int = 10
    # Whether active windows without lines count in the usual rate: true for exceptions of spans.
    silence_counts: bool = False
    # Length of the intervals by which activity is reported; each counts as a whole.
    observed_ms: int = MINUTE_MS
    seeds: frozenset[str] = frozenset()  # ids of patterns that are never new
    close_after_ms: int = 600_000  # an episode without lines for this long ends
    accept_ms: int = 1_800_000  # an episode that lasts this long is the new normal

    @property
    def observed_minutes(self) -> int:
        """Return the minutes that one active interval adds."""
        return self.observed_ms // MINUTE_MS


class _Now(NamedTuple):
    """The window that is evaluated.

    minutes: active minutes of the service, those of the window included.
    service: lines of the service, those of the window included.
    source: of the lines.
    """

    window: ServiceWindow[LogTable]
    minutes: int
    service: ServiceLines
    source: LineSource

    def insight(self, episode: PatternEpisode, entry: Registered, status: Status, reason: str = "") -> Insight:
        """Return the candidate of an episode."""
        window = self.window
        return report(window.env, window.service, episode, entry, status, reason, source=self.source)


class _Followed(NamedTuple):
    """A pattern after a window. episode: None if it has ended."""

    entry: Registered
    episode: PatternEpisode | None
    candidate: Insight | None


class _Named(NamedTuple):
    """Patterns of a window under their canonical ids.

    entries: the registry with them.
    found: severe lines of the window by canonical id, of patterns in the registry.
    added: ids that are new in the registry.
    refused: number of lines of patterns for which the registry had no room.
    """

    entries: dict[str, Registered]
    found: dict[str, PatternCount]
    added: frozenset[str]
    refused: int


def evaluate_lines(
    model: LogPatternModel, window: ServiceWindow[LogTable], config: PatternConfig, source: LineSource = "logs"
) -> tuple[LogPatternModel, list[Insight]]:
    """Return the model after the window, and its candidates. O(registry + patterns).

    A window without lines says that the service was active.
    """
    minute = window.start_ms // config.observed_ms
    quiet = sum(counted.count for counted in window.table.patterns if not counted.severe)
    minutes = model.minutes + (minute != model.minute) * config.observed_minutes
    service = model.lines
    if window.table.patterns:  # otherwise the window only reports activity
        if config.silence_counts:
            service = observe_silence(
                service, minutes, window.start_ms, window.end_ms, config.observed_ms, config.change
            )
        service = observe_window(service, window.start_ms, quiet, config.change)
    now = _Now(window, minutes, service, source)
    named = _named(model.registry, now, config)
    entries = named.entries
    before, candidates = _moved(model, named, now)
    episodes: dict[str, PatternEpisode] = {}
    room = config.new_patterns_max - sum(map(_is_novel, before.values()))
    for name, counted in sorted({**dict.fromkeys(before), **named.found}.items()):
        if name in before:
            followed = _follow(before[name], entries[name], counted, now, config, has_room=room > 0)
            room += _is_novel(before[name])
            entries[name] = _seen(followed.entry, counted, now) if counted else followed.entry
        else:
            assert counted is not None, f"pattern {name} has no episode and no lines; expected one of them"
            followed = _begun(model, named, name, now, config, has_room=room > 0)
            entries[name] = followed.entry
        room -= _is_novel(followed.episode)
        candidates += [followed.candidate] if followed.candidate else []
        if followed.episode is not None:
            episodes[name] = followed.episode
    model = LogPatternModel(
        registry=entries,
        evicted=evicted_patterns(model, entries),
        episodes=episodes,
        minutes=now.minutes,
        minute=minute,
        refused_lines=model.refused_lines + named.refused,
        lines=service,
        last_end_ms=window.end_ms,
    )
    return model, candidates


def _moved(model: LogPatternModel, named: _Named, now: _Now) -> tuple[dict[str, PatternEpisode], list[Insight]]:
    """Return the open episodes by canonical id, and candidates that close merged ones.

    Where patterns have been merged, the oldest visible episode goes on.
    """
    entries = named.entries
    kept: dict[str, PatternEpisode] = {}
    candidates: list[Insight] = []
    ordered = sorted(model.episodes.items(), key=lambda item: (not item[1].visible, item[1].start_ms, item[0]))
    for name, episode in ordered:
        target = canonical(entries, name, ())
        if target not in kept:
            kept[target] = episode
        elif episode.visible:
            candidates.append(now.insight(episode, entries[name], "closed", JOINED))
    return kept, candidates


def _is_novel(episode: PatternEpisode | None) -> bool:
    """Return whether the episode is a visible one of a new or returned pattern."""
    return episode is not None and episode.visible and episode.kind != "error_pattern_surge"


def expire_patterns(model: LogPatternModel, env: str, service: str, source: LineSource = "logs") -> list[Insight]:
    """Return the closing candidates of the open episodes when a service is forgotten."""
    return [
        report(env, service, episode, model.registry[name], "closed", EXPIRED, source=source)
        for name, episode in sorted(model.episodes.items())
        if episode.visible
    ]


def _named(known: Mapping[str, Registered], now: _Now, config: PatternConfig) -> _Named:
    severe = [
        counted for counted in now.window.table.patterns if counted.severe and counted.pattern_id != OTHER_PATTERNS
    ]
    names = {counted.pattern_id: canonical(known, counted.pattern_id, counted.texts) for counted in severe}
    fresh = {
        counted.pattern_id: Registered(counted.texts, now.window.start_ms, now.window.start_ms, now.minutes)
        for counted in severe
        if names[counted.pattern_id] not in known
    }
    here = set(names.values())
    registry = register(_with_room(known, here, len(fresh), now.minutes, config), fresh, config.patterns_max)
    found: dict[str, PatternCount] = {}
    for counted in severe:
        if counted.pattern_id in registry.refused:
            continue
        name = canonical(registry.entries, counted.pattern_id, counted.texts)
        renamed = msgspec.structs.replace(
            counted, pattern_id=name, texts=() if name != counted.pattern_id else counted.texts
        )
        found[name] = merge_counts(found[name], renamed) if name in found else renamed
    refused = sum(counted.count for counted in severe if counted.pattern_id in registry.refused)
    return _Named(registry.entries, dict(sorted(found.items())), frozenset(registry.added), refused)


def _with_room(
    known: Mapping[str, Registered], here: set[str], wanted: int, minutes: int, config: PatternConfig
) -> dict[str, Registered]:
    """Return the registry with room for `wanted` more patterns, as far as it can be made.

    Patterns that were not seen for away_minutes are evicted, none of those in the window.
    """
    short = len(known) + wanted - config.patterns_max
    if not wanted or short <= 0:
        return dict(known)
    away = sorted(
        (entry.last_minute, name)
        for name, entry in known.items()
        if minutes - entry.last_minute > config.away_minutes and name not in here and entry.alias_of not in here
    )
    evicted = {name for _, name in away[:short]}
    return {name: entry for name, entry in known.items() if name not in evicted and entry.alias_of not in evicted}


def _begun(
    model: LogPatternModel, named: _Named, name: str, now: _Now, config: PatternConfig, *, has_room: bool
) -> _Followed:
    """Return a pattern after its lines of this window, and the episode that begins with them."""
    counted = named.found[name]
    opened = _opened(model, named, name, now, config)
    entry, surge = _surged(_seen(named.entries[name], counted, now), counted, now, len(named.entries), config)
    opened = opened or surge
    if opened is None or now.minutes - config.observed_minutes < config.warm_minutes:
        return _Followed(entry, None, None)
    if opened.kind != "error_pattern_surge" and not has_room:
        opened = msgspec.structs.replace(opened, visible=False)
    entry = msgspec.structs.replace(entry, rate=forget_recent(entry.rate, now.service, config.change))
    return _Followed(entry, opened, now.insight(opened, entry, "open") if opened.visible else None)


def _opened(
    model: LogPatternModel, named: _Named, name: str, now: _Now, config: PatternConfig
) -> PatternEpisode | None:
    """Return the episode of a pattern that is new or has returned."""
    start_ms = now.window.start_ms
    before = model.registry.get(name)
    if config.seeds and _is_seeded(named.entries, name, config.seeds):
        return None
    if name in named.added:
        away_ms = start_ms - model.evicted[name] if name in model.evicted else 0
        kind: PatternKind = "error_pattern_returned" if away_ms else "error_pattern_new"
        return _with_visibility(_episode(kind, named.found[name], now, away_ms), config)
    # The least possible time: the pattern may have been seen at the end of an interval, and now at the start of one.
    away_minutes = now.minutes - before.last_minute - config.observed_minutes + 1 if before else 0
    if before is not None and away_minutes > max(config.away_minutes, 2 * before.away_minutes_max):
        returned = _episode("error_pattern_returned", named.found[name], now, start_ms - before.last_seen_ms)
        return _with_visibility(returned, config)
    return None


def _is_seeded(entries: Mapping[str, Registered], name: str, seeds: frozenset[str]) -> bool:
    return name in seeds or any(entry.alias_of == name and part in seeds for part, entry in entries.items())


def _with_visibility(episode: PatternEpisode, config: PatternConfig) -> PatternEpisode:
    """Return the episode, visible if it has enough lines."""
    counted = episode.counted
    visible = counted.count >= config.lines_min or counted.severity >= FATAL
    return msgspec.structs.replace(episode, visible=visible)


def _episode(kind: PatternKind, counted: PatternCount, now: _Now, away_ms: int = 0) -> PatternEpisode:
    window = now.window
    window_ms = window.end_ms - window.start_ms
    return PatternEpisode(
        kind,
        window.start_ms,
        window.end_ms,
        counted,
        window.table.info,
        window.table.ranges,
        window_ms,
        absent_ms=away_ms,
    )


def _seen(entry: Registered, counted: PatternCount, now: _Now) -> Registered:
    known_texts = entry.wide or not counted.texts
    return msgspec.structs.replace(
        entry,
        texts=entry.texts if known_texts else merge_texts(entry.texts, counted.texts),
        last_seen_ms=now.window.start_ms,
        last_minute=now.minutes,
        away_minutes_max=max(entry.away_minutes_max, now.minutes - entry.last_minute),
        count=entry.count + counted.count,
    )


def _surged(
    entry: Registered, counted: PatternCount, now: _Now, tests: int, config: PatternConfig
) -> tuple[Registered, PatternEpisode | None]:
    """Return the entry after its lines of this window, and an episode if they are a surge."""
    service, change = now.service, config.change
    entry = msgspec.structs.replace(entry, rate=with_lines(entry.rate, service, counted.count, change))
    surge = surge_of(entry.rate, service, change)
    if surge is None or surge.nats < change.nats_open + log(tests):
        return entry, None
    episode = _episode("error_pattern_surge", msgspec.structs.replace(counted, count=surge.lines), now)
    start_ms = service.recent[-surge.windows][0]
    usual = usual_lines(entry.rate, service, change)
    return entry, msgspec.structs.replace(episode, start_ms=start_ms, usual=usual, windows=surge.windows)


def _follow(
    episode: PatternEpisode,
    entry: Registered,
    counted: PatternCount | None,
    now: _Now,
    config: PatternConfig,
    *,
    has_room: bool,
) -> _Followed:
    """Follow an open episode: close it, accept it, or update it after 3, 6, 12, 24 ... windows."""
    if now.window.start_ms - episode.end_ms >= config.close_after_ms:
        return _closed(episode, entry, UNSEEN, now, config)
    window, of_surge, change = now.window, episode.kind == "error_pattern_surge", config.change
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
        end_ms=window.end_ms,
        counted=merge_counts(episode.counted, _named_as(episode, counted)),
        info=merge_info((episode.info, window.table.info)),
        ranges=merge_ranges((*episode.ranges, *window.table.ranges)),
        recovery=recovery,
        windows=episode.windows + 1,
    )
    if after.end_ms - after.start_ms >= config.accept_ms:
        return _closed(after, entry, KNOWN, now, config)
    if not episode.visible:
        after = _with_visibility(after, config) if has_room else after
        opening = now.insight(after, entry, "open") if after.visible else None
        return _Followed(entry, after, opening)
    thirds, rest = divmod(after.windows, 3)
    if rest or thirds & (thirds - 1):
        return _Followed(entry, after, None)
    return _Followed(entry, after, now.insight(after, entry, "updated"))


def _named_as(episode: PatternEpisode, counted: PatternCount) -> PatternCount:
    """Return the lines under the id that the episode began with, even if that pattern is part of a wider one now."""
    name = episode.counted.pattern_id
    if counted.pattern_id == name:
        return counted
    return msgspec.structs.replace(counted, pattern_id=name, texts=())


def _closed(episode: PatternEpisode, entry: Registered, reason: str, now: _Now, config: PatternConfig) -> _Followed:
    """Return the pattern without its episode, whose lines are not learned unless they are the new normal."""
    service = now.service
    candidate = now.insight(episode, entry, "closed", reason) if episode.visible else None
    rate = forget_recent(entry.rate, service, config.change)
    if reason == KNOWN:
        windows = (episode.end_ms - episode.start_ms) / episode.window_ms
        mean, observed_windows = episode.counted.count / windows, max(1.0, service.past_windows)
        rate = LineRate(mean * observed_windows, mean * (mean + 1) * observed_windows, rate.as_of)
    return _Followed(msgspec.structs.replace(entry, rate=rate), None, candidate)
