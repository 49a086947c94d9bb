"""The shape rule: a window of requests, lines and calls moves what is usual, and opens, follows and closes insights.

A line is missed when it comes less than half as often with the requests as it used to, by more than chance, in six
windows or more; a call likewise, and also when it comes twice as often. Lines are compared with the other lines of the
service too: where each falls, it is the number of requests that changed (another sampling), or logging as a whole.
One insight a service is open at a time; it names every line and call that changed with it.
"""

from dataclasses import dataclass, field
from math import log
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.requests import LINE, EffectWindow
from state_schemas.contracts.insight import Insight, Status
from state_schemas.state.requests import EffectEpisode, EffectMember, EffectModel
from udfs.activity import merge_ranges
from udfs.detect.requests.rates import Rates, accept, forget, observe, packed, strange_share, unpacked
from udfs.detect.requests.report import report
from udfs.detect.service_window import ServiceWindow
from udfs.service_info import merge_info
from udfs.spans.window import merge_sampled
from udfs.stats.poisson_change import WINDOWS, ChangeConfig, change_nats

__all__ = ["EffectConfig", "evaluate_effects", "expire_effects"]

RECOVERED: Final = "back to what is usual"
ACCEPTED: Final = "it has stayed: it is usual now"
DEPLOYED: Final = "another version runs: what is usual is learned anew"
UNSEEN: Final = "not seen again"
EXPIRED: Final = "no more requests"
# Expected of a line at least, before it says whether lines fall alike.
OTHERS_MIN: Final = 10.0
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EffectConfig:
    """nats_close: for what is usual, to close; close_after_ms: nothing spoke for it for so long, so it closes too.
    accept_ms: open for so long, what it says is the new normal. past_windows_min: with requests, before the interval:
    with it ten minutes, as of patterns (a window of the past weighs a little less than 1). settle_ms: after another
    version has come, or an old one again, nothing is told for so long, and what is usual is learned anew, faster:
    unsettled_keep.
    seen_windows_min: with a shape, before it is missed; never before it is away for twice as long as ever before.

    More of a call is news only where it was made with rare_share of the requests (errors, which are rarer, are watched
    by themselves), and at most strange_max of the requests are of operations seen less than strange_min times.
    """

    change: ChangeConfig = field(default_factory=ChangeConfig)
    nats_close: float = 6.0
    close_after_ms: int = 600_000
    accept_ms: int = 1_800_000
    past_windows_min: float = 45.0
    settle_ms: int = 1_800_000
    unsettled_keep: float = 1 - 1 / 20
    seen_windows_min: float = 12.0
    rare_share: float = 0.05
    strange_max: float = 0.1
    strange_min: float = 30.0


class _Changes(NamedTuple):
    """For each shape: nats for a change (0: none), windows of the interval that shows it best, whether it is more."""

    nats: _Floats
    windows: NDArray[np.int64]
    more: NDArray[np.bool_]


def evaluate_effects(
    model: EffectModel, window: ServiceWindow[EffectWindow], config: EffectConfig
) -> tuple[EffectModel, list[Insight]]:
    """What is known after the window, and what it announces. O(shapes * operations)."""
    if not window.table.requests:
        return _without_requests(model, window, config)
    candidates: list[Insight] = []
    before = model.changed_ms
    model, is_settled = _deployed(model, window, config)
    rates, episode, templates = unpacked(model.rates), model.episode, model.rates.templates
    if model.changed_ms != before:
        rates.runs[:] = 0.0  # what was seen before says nothing of what another version does
    if episode is not None and not is_settled:
        candidates.append(report(window.env, window.service, episode, templates, "closed", DEPLOYED))
        forget(rates, (member.name for member in episode.members))
        episode = None
    held = frozenset(member.name for member in episode.members) if episode else frozenset()
    keep = config.change.keep if is_settled else config.unsettled_keep
    observe(rates, window.start_ms, window.table, held, config.change, keep)
    if episode is not None:
        after, reason = _followed(episode, rates, window, config)
        if reason or _is_reported(episode, after):
            status: Status = "closed" if reason else "updated"
            candidates.append(report(window.env, window.service, after, rates.templates, status, reason))
        names = frozenset(member.name for member in after.members)
        if reason == ACCEPTED:
            accept(rates, names)
        if reason:
            forget(rates, names)
        episode = None if reason else after
    elif is_settled:
        episode = _opened(rates, window, config)
        if episode is not None:
            candidates.append(report(window.env, window.service, episode, rates.templates, "open"))
    return msgspec.structs.replace(model, rates=packed(rates), episode=episode, last_end_ms=window.end_ms), candidates


def _without_requests(
    model: EffectModel, window: ServiceWindow[EffectWindow], config: EffectConfig
) -> tuple[EffectModel, list[Insight]]:
    """A window that tells nothing, but that time goes on."""
    model, episode = msgspec.structs.replace(model, last_end_ms=window.end_ms), model.episode
    if episode is None or window.start_ms - episode.end_ms < config.close_after_ms:
        return model, []
    rates = unpacked(model.rates)
    forget(rates, (member.name for member in episode.members))
    candidate = report(window.env, window.service, episode, rates.templates, "closed", UNSEEN)
    return msgspec.structs.replace(model, rates=packed(rates), episode=None), [candidate]


def _deployed(
    model: EffectModel, window: ServiceWindow[EffectWindow], config: EffectConfig
) -> tuple[EffectModel, bool]:
    """What is known of versions, and whether one has run alone for long enough to say what is usual."""
    version, changed_ms = window.table.info.version or model.version, model.changed_ms
    if model.version and version != model.version:
        changed_ms = window.end_ms
    is_settled = not changed_ms or window.start_ms - changed_ms >= config.settle_ms
    return msgspec.structs.replace(model, version=version, changed_ms=changed_ms), is_settled


def expire_effects(model: EffectModel, env: str, service: str) -> list[Insight]:
    """Closing draft of what is open when a service is forgotten."""
    if model.episode is None:
        return []
    return [report(env, service, model.episode, model.rates.templates, "closed", EXPIRED)]


def _changes(rates: Rates, config: EffectConfig) -> _Changes:
    n, change = len(rates.names), config.change
    best, windows, more = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.bool_)
    lines = np.array([name.startswith(LINE) for name in rates.names], np.bool_)
    if_usual = rates.expected
    certain = ~lines if (lines & (if_usual.sum(axis=1) >= OTHERS_MIN)).sum() < 2 else np.ones(n, np.bool_)
    few = (rates.counts * change.factor <= if_usual) & (if_usual > 0)
    many = (rates.counts >= if_usual * change.factor) & (~lines & ~_are_rare(rates, config))[:, None]
    for interval in (interval for interval in WINDOWS if interval <= len(rates.recent)):
        counts, expected = rates.counts[:, -interval:].sum(axis=1), if_usual[:, -interval:].sum(axis=1)
        expected = np.where(lines, expected * _common(counts, expected, lines), expected)
        fewer = (counts * change.factor <= expected) & (few[:, -interval:].sum(axis=1) >= change.windows_min)
        fewer &= _may_miss(rates, counts, interval, certain, config)
        greater = (counts >= expected * change.factor) & (many[:, -interval:].sum(axis=1) >= change.windows_min)
        nats = _beyond(change_nats(counts, expected, rates.past), counts, expected, rates.variation)
        better = (fewer | greater) & (nats > best)
        best, windows, more = (
            np.where(better, new, old) for new, old in ((nats, best), (interval, windows), (greater, more))
        )
    return _Changes(best, windows, more)


def _changed(changes: _Changes, config: EffectConfig) -> list[int]:
    """Places of the shapes that have changed beyond chance, of as many as are watched."""
    wanted = config.change.nats_open + log(max(1, len(changes.nats)))
    found: list[int] = np.flatnonzero(changes.nats >= wanted).tolist()
    return found


def _may_miss(
    rates: Rates, counts: _Floats, windows: int, certain: NDArray[np.bool_], config: EffectConfig
) -> NDArray[np.bool_]:
    """Shapes, with so many in a interval of windows, that came often enough, and do not stay away as they sometimes do.

    certain: others tell that the requests are still counted alike; else it must come less often in a window, too.
    """
    with_it, without, longest = rates.runs.T
    usual: NDArray[np.bool_] = (with_it >= config.seen_windows_min) & ((counts > 0) | (without > 2 * longest))
    usual_of_interval = rates.past / max(1.0, rates.requests[0]) * windows
    fewer: NDArray[np.bool_] = counts * config.change.factor <= usual_of_interval
    return usual & (fewer | certain)


def _beyond(nats: _Floats, counts: _Floats, expected: _Floats, variation: _Floats) -> _Floats:
    """What is left of evidence against chance where intervals vary by themselves as well.

    The two are resistances in parallel: log-normal variation of the same size would give the change by itself with
    log(ratio)^2 / (2 * variation) nats, however many requests there are.
    """
    far = np.log((counts + 0.5) / (expected + 0.5)) ** 2 / 2
    left: _Floats = np.divide(nats * far, far + nats * variation, out=np.zeros_like(nats), where=far > 0)
    return left


def _common(counts: _Floats, expected: _Floats, lines: NDArray[np.bool_]) -> _Floats:
    """For each shape: what is left of the *other* line of which most is left, at most 1; 1 where there is none."""
    known = lines & (expected >= OTHERS_MIN)
    left = np.where(known, counts / np.maximum(expected, OTHERS_MIN), 0.0)
    if known.sum() < 2 or not counts[lines].any():  # whether nobody logs any more, LogSilence knows
        return np.ones(len(counts))
    first, second = np.sort(left)[::-1][:2]
    best: _Floats = np.minimum(1.0, np.where(left == first, second, first))
    return best


def _are_rare(rates: Rates, config: EffectConfig) -> NDArray[np.bool_]:
    """Shapes of which more would be no news: usually with few requests, or all where the requests are new ones."""
    if strange_share(rates, config.strange_min) > config.strange_max:
        return np.ones(len(rates.names), np.bool_)
    rare: NDArray[np.bool_] = rates.past < config.rare_share * rates.requests[1:].sum()
    return rare


def _opened(rates: Rates, window: ServiceWindow[EffectWindow], config: EffectConfig) -> EffectEpisode | None:
    """An episode of all shapes that have changed; None where none has, or too little is known."""
    if rates.requests[0] < config.past_windows_min:
        return None
    changes = _changes(rates, config)
    found = sorted((-float(changes.nats[place]), rates.names[place], place) for place in _changed(changes, config))
    if not found:
        return None
    subject = found[0][2]
    first = len(rates.recent) - int(changes.windows[subject])
    first += _leading_usual(rates, subject, first, bool(changes.more[subject]), config.change.factor)
    interval = rates.recent[first:]
    return EffectEpisode(
        kind="pattern_missing" if rates.names[subject].startswith(LINE) else "trace_shape_change",
        start_ms=interval[0].start_ms,
        end_ms=window.end_ms,
        members=tuple(_member(rates, place, first, bool(changes.more[place])) for _, _, place in found),
        requests=sum(sum(recent.requests[1:]) for recent in interval),
        traces=merge_sampled(trace for recent in interval for trace in recent.traces),
        window_ms=window.end_ms - window.start_ms,
        info=window.table.info,
        ranges=merge_ranges(part for recent in interval for part in recent.ranges),
        windows=len(interval),
        silent=_silent(rates, len(interval)),
    )


def _leading_usual(rates: Rates, place: int, first: int, more: bool, factor: float) -> int:
    """How many windows of the interval come before the first that shows the change."""
    counts, expected = rates.counts[place, first:], rates.expected[place, first:]
    shows = counts >= expected * factor if more else (counts * factor <= expected) & (expected > 0)
    return int(np.argmax(shows))


def _silent(rates: Rates, windows: int) -> int:
    """In how many of the newest windows nothing was logged at all."""
    lines = [place for place, name in enumerate(rates.names) if name.startswith(LINE)]
    return int((~rates.counts[lines, -windows:].any(axis=0)).sum()) if lines else 0


def _member(rates: Rates, place: int, first: int, more: bool) -> EffectMember:
    return EffectMember(
        rates.names[place],
        more,
        float(rates.counts[place, first:].sum()),
        float(rates.expected[place, first:].sum()),
        int(rates.last_seen[place]),
    )


def _followed(
    episode: EffectEpisode, rates: Rates, window: ServiceWindow[EffectWindow], config: EffectConfig
) -> tuple[EffectEpisode, str]:
    """The episode after this window, and why it ends, or ""."""
    if window.start_ms - episode.end_ms >= config.close_after_ms:
        return episode, UNSEEN
    episode = _joined(episode, rates, config)
    factor = config.change.factor
    now = [_member(rates, rates.names.index(member.name), -1, member.more) for member in episode.members]
    nats = [_usual_nats(member, factor) for member in now]
    members = tuple(
        _moved(old, new, more, config.nats_close) for old, new, more in zip(episode.members, now, nats, strict=True)
    )
    after = msgspec.structs.replace(episode, members=members)
    if all(member.recovery >= config.nats_close for member in members):
        return after, RECOVERED
    running = [more for member, more in zip(episode.members, nats, strict=True) if member.recovery < config.nats_close]
    if sum(running) >= 0:
        return after, ""
    recent = rates.recent[-1]
    after = msgspec.structs.replace(
        after,
        end_ms=window.end_ms,
        requests=episode.requests + sum(recent.requests[1:]),
        traces=merge_sampled((*episode.traces, *recent.traces)),
        info=merge_info((episode.info, window.table.info)),
        ranges=merge_ranges((*episode.ranges, *recent.ranges)),
        windows=episode.windows + 1,
        silent=episode.silent + _silent(rates, 1),
    )
    return after, ACCEPTED if after.end_ms - after.start_ms >= config.accept_ms else ""


def _moved(old: EffectMember, now: EffectMember, nats: float, nats_close: float) -> EffectMember:
    """The member after a window; what is back to usual counts no more."""
    if old.recovery >= nats_close:
        return old
    count, expected = (old.count + now.count, old.expected + now.expected) if nats < 0 else (old.count, old.expected)
    return EffectMember(old.name, old.more, count, expected, now.last_seen_ms, max(0.0, old.recovery + nats))


def _joined(episode: EffectEpisode, rates: Rates, config: EffectConfig) -> EffectEpisode:
    """The episode with what has changed since it opened."""
    known = {member.name for member in episode.members}
    changes = _changes(rates, config)
    found = [
        _member(rates, place, -1, bool(changes.more[place]))
        for place in _changed(changes, config)
        if rates.names[place] not in known
    ]
    nothing = (msgspec.structs.replace(member, count=0.0, expected=0.0) for member in found)
    return msgspec.structs.replace(episode, members=(*episode.members, *nothing))


def _usual_nats(now: EffectMember, factor: float) -> float:
    """Log-likelihood ratio of what is usual against `factor` times less, or more, in one window."""
    changed = factor if now.more else 1 / factor
    return now.expected * (changed - 1) - now.count * log(changed)


def _is_reported(before: EffectEpisode, after: EffectEpisode) -> bool:
    """At 6, 12, 24 ... windows: how it goes."""
    sixths, rest = divmod(after.windows, 6)
    return after.windows > before.windows and not rest and not sixths & (sixths - 1)
