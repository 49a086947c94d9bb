"""Log pattern rule: one window of lines updates the registry of a service and its episodes.

A pattern is new if it was never registered, once the service has been active for warm_minutes. It has returned if it
was registered and not seen for long. A surge is a rate of a known pattern far above the usual one, relative to the
other lines of the service. All functions are pure: arguments are not changed.
"""

from dataclasses import dataclass, field
from math import log
from typing import Final, NamedTuple

import msgspec

from state_schemas.aggregates.logs import OTHER_PATTERNS, LineSource, LogTable, PatternCount
from state_schemas.contracts.insight import Insight
from state_schemas.state.log_patterns import LineRate, LogPatternModel, PatternEpisode, PatternKind, Registered
from udfs.activity import merge_ranges
from udfs.detect.lifecycle import OPEN, UNSEEN, Course, Lifecycle
from udfs.detect.log_patterns.rate import MINUTE_MS, Rates
from udfs.detect.log_patterns.registry import canonical, evicted_patterns, register
from udfs.detect.log_patterns.report import FATAL, report
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.logs.masking.masker import MaskSettings
from udfs.logs.template import merge_texts
from udfs.logs.window import merge_counts
from udfs.service_info import merge_info
from udfs.stats.poisson_change import ChangeConfig

__all__ = ["JOINED", "LIFE", "PatternConfig", "evaluate_lines", "expire_patterns"]

LIFE: Final = Lifecycle("back to its usual rate", "the pattern has stayed: it is known now", "no more lines")
JOINED: Final = Course("closed", "merged with another pattern")
VERSION_NEAR_MS: Final = 1_800_000  # a pattern that begins within this time after a version may have come with it
VERSIONS_MAX: Final = 8  # versions of a service that are remembered


@dataclass(frozen=True, slots=True)
class PatternConfig:
    """Settings of the log pattern rule. Minutes are minutes in which the service was active, so gaps do not count."""

    warm_minutes: int = 10  # until then, patterns are registered without an insight
    # A pattern not seen for so many minutes, and twice as long as ever before, has returned. It can be evicted.
    away_minutes: int = 60
    patterns_max: int = 1_000  # patterns in the registry
    change: ChangeConfig = field(default_factory=ChangeConfig)  # test that opens a surge
    life: Lifecycle = LIFE
    # Lines of a new or returned pattern before an insight is emitted; a FATAL line is emitted at once.
    lines_min: int = 2
    # Visible insights of new or returned patterns at the same time; further patterns are registered without one.
    new_patterns_max: int = 10
    # Source of the lines. Active windows without exceptions of spans count in the usual rate, those without logs not.
    source: LineSource = "logs"
    # Length of the intervals by which activity is reported; each counts as a whole.
    observed_ms: int = MINUTE_MS
    seeds: frozenset[str] = frozenset()  # ids of patterns that are never new
    top: int = 20  # patterns of a window that get a row of their own in `error_patterns`
    insights: bool = True  # whether insights are emitted beside the rows
    idle_ms: int = 7 * 24 * 3_600_000  # a key without lines or spans for this long (event time) is forgotten
    # Masks of the patterns: other masks give other pattern ids.
    masks: MaskSettings = field(default_factory=MaskSettings)

    @property
    def observed_minutes(self) -> int:
        """Return the minutes that one active interval adds."""
        return self.observed_ms // MINUTE_MS


class _Followed(NamedTuple):
    """A pattern after a window. episode: None without one, or if it has ended."""

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
    model: LogPatternModel, window: ServiceWindow[LogTable], config: PatternConfig
) -> tuple[LogPatternModel, list[Insight]]:
    """Return the model after the window, and its candidates. O(registry + patterns).

    A window without lines says that the service was active.
    """
    minute = window.start_ms // config.observed_ms
    minutes = model.minutes + (minute != model.minute) * config.observed_minutes
    rates, versions = _rates(model, window, config, minutes), _versions(model, window)
    now = _Evaluation(model, window, config, minutes, rates, versions)
    named = now.named()
    entries = named.entries
    before, candidates = now.moved(named)
    episodes: dict[str, PatternEpisode] = {}
    room = config.new_patterns_max - sum(map(_is_novel, before.values()))
    for name, counted in sorted({**dict.fromkeys(before), **named.found}.items()):
        if name in before:
            followed = now.follow(before[name], entries[name], counted, has_room=room > 0)
            room += _is_novel(before[name])
            entries[name] = now.seen(followed.entry, counted) if counted else followed.entry
        else:
            followed = now.begin(named, name, has_room=room > 0)
            entries[name] = followed.entry
        room -= _is_novel(followed.episode)
        candidates += [followed.candidate] if followed.candidate else []
        if followed.episode is not None:
            episodes[name] = followed.episode
    model = LogPatternModel(
        registry=entries,
        evicted=evicted_patterns(model, entries),
        episodes=episodes,
        minutes=minutes,
        minute=minute,
        refused_lines=model.refused_lines + named.refused,
        lines=now.rates.service,
        last_end_ms=window.end_ms,
        versions=versions,
    )
    return model, candidates


def expire_patterns(model: LogPatternModel, key: ServiceKey, config: PatternConfig) -> list[Insight]:
    """Return the closing candidates of the open episodes when a service is forgotten."""
    return [
        report(key, episode, model.registry[name], config.life.expiry(), config.source)
        for name, episode in sorted(model.episodes.items())
        if episode.visible
    ]


def _rates(model: LogPatternModel, window: ServiceWindow[LogTable], config: PatternConfig, minutes: int) -> Rates:
    rates = Rates(model.lines, config.change, window.end_ms - window.start_ms, config.observed_ms)
    if not window.table.patterns:  # the window only reports activity
        return rates
    if config.source == "spans":
        rates = rates.after_silence(window.start_ms, minutes)
    quiet = sum(counted.count for counted in window.table.patterns if not counted.severe)
    return rates.after_window(window.start_ms, quiet)


def _versions(model: LogPatternModel, window: ServiceWindow[LogTable]) -> dict[str, int]:
    """Return the versions of the service with the start of the first window of each, those seen last at the end."""
    known, table = model.versions, window.table
    seen = {table.info.version, *(name for counted in table.patterns for name in counted.versions)} - {""}
    kept = {name: since_ms for name, since_ms in known.items() if name not in seen}
    kept |= {name: known.get(name, window.start_ms) for name in sorted(seen)}
    return dict(list(kept.items())[-VERSIONS_MAX:])


def _is_novel(episode: PatternEpisode | None) -> bool:
    """Return whether the episode is a visible one of a new or returned pattern."""
    return episode is not None and episode.visible and episode.kind != "error_pattern_surge"


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """Evaluation of one window. minutes, rates, versions: those of the service, the window included."""

    model: LogPatternModel
    window: ServiceWindow[LogTable]
    config: PatternConfig
    minutes: int
    rates: Rates
    versions: dict[str, int]

    def named(self) -> _Named:
        """Register the severe patterns of the window."""
        known, start_ms = self.model.registry, self.window.start_ms
        severe = [
            counted for counted in self.window.table.patterns if counted.severe and counted.pattern_id != OTHER_PATTERNS
        ]
        names = {counted.pattern_id: canonical(known, counted.pattern_id, counted.texts) for counted in severe}
        fresh = {
            counted.pattern_id: Registered(counted.texts, start_ms, start_ms, self.minutes)
            for counted in severe
            if names[counted.pattern_id] not in known
        }
        registry = register(self._with_room(set(names.values()), len(fresh)), fresh, self.config.patterns_max)
        found: dict[str, PatternCount] = {}
        for counted in severe:
            if counted.pattern_id not in registry.refused:
                name = canonical(registry.entries, counted.pattern_id, counted.texts)
                renamed = _renamed(counted, name)
                found[name] = merge_counts(found[name], renamed) if name in found else renamed
        refused = sum(counted.count for counted in severe if counted.pattern_id in registry.refused)
        return _Named(registry.entries, dict(sorted(found.items())), frozenset(registry.added), refused)

    def _since_version(self, episode: PatternEpisode) -> PatternEpisode:
        """Return the episode of a new pattern with the version that came shortly before it, after the warm-up.

        The version before is the one seen last of those that came earlier.
        """
        version = episode.counted.versions[0] if episode.counted.versions else ""
        since_ms = self.versions.get(version, 0)
        earlier = [name for name, came_ms in self.versions.items() if came_ms < since_ms]
        warm_ms = min(self.versions.values(), default=0) + self.config.warm_minutes * MINUTE_MS
        if not earlier or since_ms < warm_ms or self.window.start_ms - since_ms > VERSION_NEAR_MS:
            return episode
        return msgspec.structs.replace(episode, version=version, version_before=earlier[-1])

    def _with_room(self, here: set[str], wanted: int) -> dict[str, Registered]:
        """Return the registry with room for `wanted` more patterns, as far as it can be made.

        Patterns that were not seen for away_minutes are evicted, none of those in the window.
        """
        known = self.model.registry
        short = len(known) + wanted - self.config.patterns_max
        if not wanted or short <= 0:
            return dict(known)
        oldest = self.minutes - self.config.away_minutes
        away = sorted(
            (entry.last_minute, name)
            for name, entry in known.items()
            if entry.last_minute < oldest and name not in here and entry.alias_of not in here
        )
        evicted = {name for _, name in away[:short]}
        return {name: entry for name, entry in known.items() if name not in evicted and entry.alias_of not in evicted}

    def moved(self, named: _Named) -> tuple[dict[str, PatternEpisode], list[Insight]]:
        """Return the open episodes by canonical id, and candidates that close merged ones.

        Where patterns have been merged, the oldest visible episode goes on.
        """
        kept: dict[str, PatternEpisode] = {}
        candidates: list[Insight] = []
        ordered = sorted(self.model.episodes.items(), key=lambda item: (not item[1].visible, item[1].start_ms, item[0]))
        for name, episode in ordered:
            target = canonical(named.entries, name, ())
            if target not in kept:
                kept[target] = episode
            elif merged := self._insight(episode, named.entries[name], JOINED):
                candidates.append(merged)
        return kept, candidates

    def begin(self, named: _Named, name: str, *, has_room: bool) -> _Followed:
        """Return a pattern after its lines of this window, and the episode that begins with them."""
        counted = named.found[name]
        seen = self.seen(named.entries[name], counted)
        entry = msgspec.structs.replace(seen, rate=self.rates.with_lines(seen.rate, counted.count))
        opened = self._novel(named, name) or self._surge(entry, counted, len(named.entries))
        if opened is None or self.minutes - self.config.observed_minutes < self.config.warm_minutes:
            return _Followed(entry, None, None)
        if opened.kind != "error_pattern_surge" and not has_room:
            opened = msgspec.structs.replace(opened, visible=False)
        entry = msgspec.structs.replace(entry, rate=self.rates.without_recent(entry.rate))
        opened = self._since_version(opened) if opened.kind == "error_pattern_new" else opened
        return _Followed(entry, opened, self._insight(opened, entry, OPEN))

    def _novel(self, named: _Named, name: str) -> PatternEpisode | None:
        """Return the episode of a pattern that is new or has returned."""
        start_ms, config, counted = self.window.start_ms, self.config, named.found[name]
        before = self.model.registry.get(name)
        if config.seeds and _is_seeded(named.entries, name, config.seeds):
            return None
        if name in named.added:
            away_ms = start_ms - self.model.evicted[name] if name in self.model.evicted else 0
            kind: PatternKind = "error_pattern_returned" if away_ms else "error_pattern_new"
            return self._with_visibility(self._episode(kind, counted, away_ms))
        # The least possible time: the pattern was seen perhaps at the end of an interval, and now at the start of one.
        away_minutes = self.minutes - before.last_minute - config.observed_minutes + 1 if before else 0
        if before is not None and away_minutes > max(config.away_minutes, 2 * before.away_minutes_max):
            away_ms = start_ms - before.last_seen_ms
            return self._with_visibility(self._episode("error_pattern_returned", counted, away_ms))
        return None

    def _surge(self, entry: Registered, counted: PatternCount, tests: int) -> PatternEpisode | None:
        """Return the episode of a pattern whose lines are a surge. tests: number of patterns that are tested."""
        surge = self.rates.surge(entry.rate)
        if surge is None or surge.nats < self.config.change.nats_open + log(tests):
            return None
        return msgspec.structs.replace(
            self._episode("error_pattern_surge", msgspec.structs.replace(counted, count=surge.lines)),
            start_ms=self.rates.service.recent[-surge.windows][0],
            usual=self.rates.usual_lines(entry.rate),
            windows=surge.windows,
        )

    def _episode(self, kind: PatternKind, counted: PatternCount, away_ms: int = 0) -> PatternEpisode:
        window = self.window
        return PatternEpisode(
            kind,
            counted,
            window.table.info,
            window.table.ranges,
            window.end_ms - window.start_ms,
            absent_ms=away_ms,
            start_ms=window.start_ms,
            end_ms=window.end_ms,
        )

    def _with_visibility(self, episode: PatternEpisode) -> PatternEpisode:
        """Return the episode, visible if it has enough lines."""
        counted = episode.counted
        visible = counted.count >= self.config.lines_min or counted.severity >= FATAL
        return msgspec.structs.replace(episode, visible=visible)

    def seen(self, entry: Registered, counted: PatternCount) -> Registered:
        """Return the entry after its lines of this window."""
        known_texts = entry.wide or not counted.texts
        return msgspec.structs.replace(
            entry,
            texts=entry.texts if known_texts else merge_texts(entry.texts, counted.texts),
            last_seen_ms=self.window.start_ms,
            last_minute=self.minutes,
            away_minutes_max=max(entry.away_minutes_max, self.minutes - entry.last_minute),
            count=entry.count + counted.count,
        )

    def follow(
        self, episode: PatternEpisode, entry: Registered, counted: PatternCount | None, *, has_room: bool
    ) -> _Followed:
        """Follow an open episode through the window."""
        if self.config.life.is_unseen(episode, self.window.start_ms):
            return self._closed(episode, entry, UNSEEN)
        after = self._extended(episode, entry, counted)
        course = self.config.life.course(episode, after)
        if course is not None and course.status == "closed":
            return self._closed(after, entry, course)
        if not episode.visible and has_room and after.windows > episode.windows:
            after, course = self._with_visibility(after), OPEN
        return _Followed(entry, after, self._insight(after, entry, course) if course else None)

    def _extended(self, episode: PatternEpisode, entry: Registered, counted: PatternCount | None) -> PatternEpisode:
        """Return the episode after the window: a surge needs more lines than usual, others need any."""
        nats = float(counted.count if counted else 0)
        if episode.kind == "error_pattern_surge":
            factor, usual = self.config.change.factor, self.rates.usual_lines(entry.rate) * self.rates.loads[-1]
            nats = nats * log(factor) - usual * (factor - 1)
            episode = msgspec.structs.replace(episode, recovery=max(0.0, episode.recovery - nats))
        if counted is None or nats <= 0:
            return episode
        table = self.window.table
        return msgspec.structs.replace(
            episode,
            end_ms=self.window.end_ms,
            # Under the id that the episode began with, even if that pattern is part of a wider one now.
            counted=merge_counts(episode.counted, _renamed(counted, episode.counted.pattern_id)),
            info=merge_info((episode.info, table.info)),
            ranges=merge_ranges((*episode.ranges, *table.ranges)),
            windows=episode.windows + 1,
        )

    def _closed(self, episode: PatternEpisode, entry: Registered, course: Course) -> _Followed:
        """Return the pattern without its episode, whose lines are not learned unless they are the new normal."""
        rate = self.rates.without_recent(entry.rate)
        if course.reason == self.config.life.accepted:
            windows = (episode.end_ms - episode.start_ms) / episode.window_ms
            mean, observed_windows = episode.counted.count / windows, max(1.0, self.rates.service.past_windows)
            rate = LineRate(mean * observed_windows, mean * (mean + 1) * observed_windows, rate.as_of)
        return _Followed(msgspec.structs.replace(entry, rate=rate), None, self._insight(episode, entry, course))

    def _insight(self, episode: PatternEpisode, entry: Registered, course: Course) -> Insight | None:
        """Return the candidate of an episode if it is visible."""
        return report(self.window.key, episode, entry, course, self.config.source) if episode.visible else None


def _is_seeded(entries: dict[str, Registered], name: str, seeds: frozenset[str]) -> bool:
    return name in seeds or any(entry.alias_of == name and part in seeds for part, entry in entries.items())


def _renamed(counted: PatternCount, name: str) -> PatternCount:
    """Return the count under another id; its texts are not those of that pattern."""
    return counted if counted.pattern_id == name else msgspec.structs.replace(counted, pattern_id=name, texts=())
