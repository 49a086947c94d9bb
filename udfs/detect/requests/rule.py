"""The rule of request effects: a window updates the model of usual rates, and opens, follows and closes insights.

A line is missing when its number per request falls to half of the usual one or less, by more than chance, in six
windows or more. The same holds for a call, and also a call that is made twice as often has changed. Lines are also
compared with the other lines of the service: where all of them fall, the number of requests has changed (another
sampling), or logging as a whole. A service has one open insight at a time; it names every line and call that changed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import log
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.requests import LINE, EffectWindow
from state_schemas.contracts.insight import Insight
from state_schemas.state.requests import EffectEpisode, EffectMember, EffectModel
from udfs.activity import merge_ranges
from udfs.detect.lifecycle import OPEN, UNSEEN, Course, Lifecycle
from udfs.detect.requests.rates import Rates
from udfs.detect.requests.report import report
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.service_info import merge_info
from udfs.spans.window import merge_sampled
from udfs.stats.poisson_change import WINDOWS, ChangeConfig, change_nats

__all__ = ["DEPLOYED", "LIFE", "EffectConfig", "evaluate_effects", "expire_effects"]

LIFE: Final = Lifecycle("back to what is usual", "it has stayed: it is usual now", "no more requests")
DEPLOYED: Final = Course("closed", "another version runs: what is usual is learned anew")
# A line must have this expected count before it is used to see whether all lines fall together.
OTHERS_MIN: Final = 10.0
_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EffectConfig:
    """Settings of the rule of request effects."""

    change: ChangeConfig = field(default_factory=ChangeConfig)
    life: Lifecycle = LIFE
    # Windows with requests before the test interval that are needed to open an insight. Together with the interval
    # these are ten minutes, as for patterns: a window of the past weighs a little less than 1.
    past_windows_min: float = 45.0
    # After a change of version, also back to an old one, no insight opens for so long.
    settle_ms: int = 1_800_000
    # Meanwhile rates are learned anew, faster: factor by which one window reduces the weight of older ones.
    unsettled_keep: float = 1 - 1 / 20
    # Windows with an effect before it can be missing. It must also be away for twice its longest absence so far.
    seen_windows_min: float = 12.0
    # More of a call opens an insight only where its usual number is at least this share of the requests. Errors are
    # rarer; they are watched separately.
    rare_share: float = 0.05
    # More of a call opens no insight where more than strange_max of the requests are of operations that were seen less
    # than strange_min times.
    strange_max: float = 0.1
    strange_min: float = 30.0
    # A service without requests for this long (event time) is forgotten.
    idle_ms: int = 8 * 24 * 3_600_000


class _Changes(NamedTuple):
    """For each effect: nats for a change (0: none), windows of the interval that shows it best, whether it is more."""

    nats: _Floats
    windows: NDArray[np.int64]
    more: _Bools


def evaluate_effects(
    model: EffectModel, window: ServiceWindow[EffectWindow], config: EffectConfig
) -> tuple[EffectModel, list[Insight]]:
    """Return the model after the window, and its candidates. O(effects * operations)."""
    if not window.table.requests:
        return _without_requests(model, window, config)
    version, changed_ms = window.table.info.version or model.version, model.changed_ms
    if model.version and version != model.version:
        changed_ms = window.end_ms
    is_settled = not changed_ms or window.start_ms - changed_ms >= config.settle_ms
    now, episode = _Evaluation(Rates.unpack(model.rates, config.change), window, config), model.episode
    candidates: list[Insight] = []
    if changed_ms != model.changed_ms:
        now.rates.forget_absences()
    if episode is not None and not is_settled:
        candidates.append(now.close(episode, DEPLOYED))
        episode = None
    now.rates.observe(window, _names(episode), config.change.keep if is_settled else config.unsettled_keep)
    if episode is not None:
        episode, candidate = now.follow(episode)
        candidates += [candidate] if candidate else []
    elif is_settled and (episode := now.opened()):
        candidates.append(now.insight(episode, OPEN))
    return EffectModel(now.rates.pack(), episode, version, changed_ms, window.end_ms), candidates


def _without_requests(
    model: EffectModel, window: ServiceWindow[EffectWindow], config: EffectConfig
) -> tuple[EffectModel, list[Insight]]:
    """Close an episode that is due in a window without requests; such a window is no evidence."""
    model, episode = msgspec.structs.replace(model, last_end_ms=window.end_ms), model.episode
    if episode is None or not config.life.is_unseen(episode, window.start_ms):
        return model, []
    now = _Evaluation(Rates.unpack(model.rates, config.change), window, config)
    candidate = now.close(episode, UNSEEN)
    return msgspec.structs.replace(model, rates=now.rates.pack(), episode=None), [candidate]


def expire_effects(model: EffectModel, key: ServiceKey, config: EffectConfig) -> list[Insight]:
    """Return the closing candidate of an open episode when the state of a service is forgotten."""
    if model.episode is None:
        return []
    return [report(key, model.episode, model.rates.templates, config.life.expiry())]


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """Evaluation of one window, which changes the rates."""

    rates: Rates
    window: ServiceWindow[EffectWindow]
    config: EffectConfig

    def insight(self, episode: EffectEpisode, course: Course) -> Insight:
        """Return the candidate of an episode."""
        return report(self.window.key, episode, self.rates.templates, course)

    def close(self, episode: EffectEpisode, course: Course) -> Insight:
        """Return the last candidate of an episode; its rates are the new usual ones if it is accepted."""
        names = _names(episode)
        if course.reason == self.config.life.accepted:
            self.rates.accept(names)
        self.rates.forget(names)
        return self.insight(episode, course)

    def opened(self) -> EffectEpisode | None:
        """Open an episode of all effects that changed; None where there is none, or where the past is too short."""
        rates, window = self.rates, self.window
        if rates.requests[0] < self.config.past_windows_min:
            return None
        changes = self._changes()
        found = sorted(self._changed(changes), key=lambda row: (-changes.nats[row], rates.names[row]))
        if not found:
            return None
        first = self._first_window(changes, found[0])
        interval = rates.recent[first:]
        return EffectEpisode(
            kind="pattern_missing" if rates.names[found[0]].startswith(LINE) else "trace_shape_change",
            start_ms=interval[0].start_ms,
            end_ms=window.end_ms,
            members=tuple(self._counted(member, first) for member in self._members(changes, found)),
            requests=sum(sum(recent.requests[1:]) for recent in interval),
            traces=merge_sampled(trace for recent in interval for trace in recent.traces),
            window_ms=window.end_ms - window.start_ms,
            info=window.table.info,
            ranges=merge_ranges(part for recent in interval for part in recent.ranges),
            windows=len(interval),
            silent=self._silent(len(interval)),
        )

    def follow(self, episode: EffectEpisode) -> tuple[EffectEpisode | None, Insight | None]:
        """Return the episode after this window, None if it has ended, and its candidate if one is due."""
        if self.config.life.is_unseen(episode, self.window.start_ms):
            return None, self.close(episode, UNSEEN)
        after = self._extended(episode)
        course = self.config.life.course(episode, after)
        if course is None:
            return after, None
        if course.status == "closed":
            return None, self.close(after, course)
        return after, self.insight(after, course)

    def _extended(self, episode: EffectEpisode) -> EffectEpisode:
        """Return the episode after the window, with the effects that have changed since it opened."""
        known, changes = _names(episode), self._changes()
        rows = [row for row in self._changed(changes) if self.rates.names[row] not in known]
        moved = [self._moved(member) for member in (*episode.members, *self._members(changes, rows))]
        members = tuple(member for member, _ in moved)
        episode = msgspec.structs.replace(episode, members=members, recovery=min(m.recovery for m in members))
        if sum(nats for _, nats in moved) >= 0:
            return episode
        recent = self.rates.recent[-1]
        return msgspec.structs.replace(
            episode,
            end_ms=self.window.end_ms,
            requests=episode.requests + sum(recent.requests[1:]),
            traces=merge_sampled((*episode.traces, *recent.traces)),
            info=merge_info((episode.info, self.window.table.info)),
            ranges=merge_ranges((*episode.ranges, *recent.ranges)),
            windows=episode.windows + 1,
            silent=episode.silent + self._silent(1),
        )

    def _moved(self, old: EffectMember) -> tuple[EffectMember, float]:
        """Return a member after the window, and the nats for its usual rate against the changed one.

        A member that is back to usual does not change any more.
        """
        if old.recovery >= self.config.life.nats_close:
            return old, 0.0
        now, factor = self._counted(old, -1), self.config.change.factor
        changed = factor if old.more else 1 / factor
        nats = now.expected * (changed - 1) - now.count * log(changed)
        count, expected = (
            (old.count + now.count, old.expected + now.expected) if nats < 0 else (old.count, old.expected)
        )
        recovery = max(0.0, old.recovery + nats)
        return msgspec.structs.replace(now, count=count, expected=expected, recovery=recovery), nats

    def _members(self, changes: _Changes, rows: Iterable[int]) -> Iterable[EffectMember]:
        return (EffectMember(self.rates.names[row], bool(changes.more[row])) for row in rows)

    def _counted(self, member: EffectMember, first: int) -> EffectMember:
        """Return a member with its counts in the windows of the interval from `first` on."""
        rates, row = self.rates, self.rates.names.index(member.name)
        return msgspec.structs.replace(
            member,
            count=float(rates.counts[row, first:].sum()),
            expected=float(rates.expected[row, first:].sum()),
            last_seen_ms=int(rates.effects["last_seen_ms"][row]),
        )

    def _first_window(self, changes: _Changes, row: int) -> int:
        """Return the first window of the interval that shows the change of an effect."""
        first, factor = len(self.rates.recent) - int(changes.windows[row]), self.config.change.factor
        counts, expected = self.rates.counts[row, first:], self.rates.expected[row, first:]
        is_shown = counts >= expected * factor if changes.more[row] else (counts * factor <= expected) & (expected > 0)
        return first + int(np.argmax(is_shown))

    def _silent(self, windows: int) -> int:
        """Count the newest windows without any line."""
        lines = self._are_lines()
        return int((~self.rates.counts[lines, -windows:].any(axis=0)).sum()) if lines.any() else 0

    def _changed(self, changes: _Changes) -> list[int]:
        """Return the effects that changed beyond chance; the threshold grows with the number of effects."""
        wanted = self.config.change.nats_open + log(max(1, len(changes.nats)))
        rows: list[int] = np.flatnonzero(changes.nats >= wanted).tolist()
        return rows

    def _changes(self) -> _Changes:
        rates, change, lines = self.rates, self.config.change, self._are_lines()
        n, if_usual = len(rates.names), rates.expected
        best, windows, more = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.bool_)
        # Effects for which the other effects show that requests are still counted the same way.
        certain = ~lines if (lines & (if_usual.sum(axis=1) >= OTHERS_MIN)).sum() < 2 else np.ones(n, np.bool_)
        few = (rates.counts * change.factor <= if_usual) & (if_usual > 0)
        many = (rates.counts >= if_usual * change.factor) & (~lines & ~self._are_rare())[:, None]
        for interval in (interval for interval in WINDOWS if interval <= len(rates.recent)):
            counts, expected = rates.counts[:, -interval:].sum(axis=1), if_usual[:, -interval:].sum(axis=1)
            expected = np.where(lines, expected * _common(counts, expected, lines), expected)
            fewer = (counts * change.factor <= expected) & (few[:, -interval:].sum(axis=1) >= change.windows_min)
            # All others must also come less often per window than usual.
            usual_of_interval = rates.effects["past"] / max(1.0, rates.requests[0]) * interval
            fewer &= self._may_miss(counts) & (certain | (counts * change.factor <= usual_of_interval))
            greater = (counts >= expected * change.factor) & (many[:, -interval:].sum(axis=1) >= change.windows_min)
            nats = _beyond(change_nats(counts, expected, rates.effects["past"]), counts, expected, rates.variation)
            better = (fewer | greater) & (nats > best)
            best, windows, more = (
                np.where(better, new, old) for new, old in ((nats, best), (interval, windows), (greater, more))
            )
        return _Changes(best, windows, more)

    def _may_miss(self, counts: _Floats) -> _Bools:
        """Return which effects came often enough and are present, or absent for over twice their longest absence."""
        effects = self.rates.effects
        often: _Bools = effects["seen"] >= self.config.seen_windows_min
        return often & ((counts > 0) | (effects["away"] > 2 * effects["away_max"]))

    def _are_lines(self) -> _Bools:
        return np.array([name.startswith(LINE) for name in self.rates.names], np.bool_)

    def _are_rare(self) -> _Bools:
        """Return which effects may grow without an insight: those of few requests, or all where requests are new."""
        rates, config = self.rates, self.config
        if rates.strange_share(config.strange_min) > config.strange_max:
            return np.ones(len(rates.names), np.bool_)
        rare: _Bools = rates.effects["past"] < config.rare_share * rates.requests[1:].sum()
        return rare


def _names(episode: EffectEpisode | None) -> frozenset[str]:
    return frozenset(member.name for member in episode.members) if episode else frozenset()


def _beyond(nats: _Floats, counts: _Floats, expected: _Floats, variation: _Floats) -> _Floats:
    """Return the evidence that is left where intervals usually vary beyond chance.

    Both kinds of evidence combine like resistances in parallel. Against log-normal variation, the change alone gives
    log(ratio)^2 / (2 * variation) nats, for any number of requests.
    """
    far = np.log((counts + 0.5) / (expected + 0.5)) ** 2 / 2
    left: _Floats = np.divide(nats * far, far + nats * variation, out=np.zeros_like(nats), where=far > 0)
    return left


def _common(counts: _Floats, expected: _Floats, lines: _Bools) -> _Floats:
    """Return for each effect the largest ratio of count to expectation among the *other* lines, at most 1.

    1 where there are less than two lines to compare, or where the service logs nothing.
    """
    known = lines & (expected >= OTHERS_MIN)
    left = np.where(known, counts / np.maximum(expected, OTHERS_MIN), 0.0)
    if known.sum() < 2 or not counts[lines].any():  # LogSilence decides on a service without any line
        return np.ones(len(counts))
    first, second = np.sort(left)[::-1][:2]
    best: _Floats = np.minimum(1.0, np.where(left == first, second, first))
    return best
