"""The rule of request effects: a window updates the model of usual rates, and opens, follows and closes insights.

A line is missing when its number per request falls to half of the usual one or less, by more than chance, in six
windows or more. The same holds for a call, and also a call that is made twice as often has changed. Lines are also
compared with the other lines of the service: where all of them fall, the number of requests has changed (another
sampling), or logging as a whole. A service has one open insight at a time; it names every line and call that changed.
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
# A line must have this expected count before it is used to see whether all lines fall together.
OTHERS_MIN: Final = 10.0
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EffectConfig:
    """Settings of the rule of request effects."""

    change: ChangeConfig = field(default_factory=ChangeConfig)
    # Evidence for the usual rate that ends a change, in nats.
    nats_close: float = 6.0
    # An episode also closes when no window has supported it for so long.
    close_after_ms: int = 600_000
    # An episode that is open for so long closes, and its rates are the new usual ones.
    accept_ms: int = 1_800_000
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


class _Changes(NamedTuple):
    """For each effect: nats for a change (0: none), windows of the interval that shows it best, whether it is more."""

    nats: _Floats
    windows: NDArray[np.int64]
    more: NDArray[np.bool_]


def evaluate_effects(
    model: EffectModel, window: ServiceWindow[EffectWindow], config: EffectConfig
) -> tuple[EffectModel, list[Insight]]:
    """Return the model after the window, and its candidates. O(effects * operations)."""
    if not window.table.requests:
        return _without_requests(model, window, config)
    candidates: list[Insight] = []
    before = model.changed_ms
    model, is_settled = _deployed(model, window, config)
    rates, episode, templates = unpacked(model.rates), model.episode, model.rates.templates
    if model.changed_ms != before:
        rates.runs[:] = 0.0  # absences under one version are no measure for another
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
    """Close an episode that is due in a window without requests; such a window is no evidence."""
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
    """Return the model with the version of the window, and whether the last change of version is settle_ms ago."""
    version, changed_ms = window.table.info.version or model.version, model.changed_ms
    if model.version and version != model.version:
        changed_ms = window.end_ms
    is_settled = not changed_ms or window.start_ms - changed_ms >= config.settle_ms
    return msgspec.structs.replace(model, version=version, changed_ms=changed_ms), is_settled


def expire_effects(model: EffectModel, env: str, service: str) -> list[Insight]:
    """Return the closing candidate of an open episode when the state of a service is forgotten."""
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
    """Return the indices of the effects that changed beyond chance; the threshold grows with the number of effects."""
    wanted = config.change.nats_open + log(max(1, len(changes.nats)))
    indices: list[int] = np.flatnonzero(changes.nats >= wanted).tolist()
    return indices


def _may_miss(
    rates: Rates, counts: _Floats, windows: int, certain: NDArray[np.bool_], config: EffectConfig
) -> NDArray[np.bool_]:
    """Return which effects came often enough and are present, or absent for over twice their longest absence.

    counts: in the interval of the newest `windows` windows. certain: effects for which the other effects show that
    requests are still counted the same way; all others must also come less often per window than usual.
    """
    with_it, without, longest = rates.runs.T
    usual: NDArray[np.bool_] = (with_it >= config.seen_windows_min) & ((counts > 0) | (without > 2 * longest))
    usual_of_interval = rates.past / max(1.0, rates.requests[0]) * windows
    fewer: NDArray[np.bool_] = counts * config.change.factor <= usual_of_interval
    return usual & (fewer | certain)


def _beyond(nats: _Floats, counts: _Floats, expected: _Floats, variation: _Floats) -> _Floats:
    """Return the evidence that is left where intervals usually vary beyond chance.

    Both kinds of evidence combine like resistances in parallel. Against log-normal variation, the change alone gives
    log(ratio)^2 / (2 * variation) nats, for any number of requests.
    """
    far = np.log((counts + 0.5) / (expected + 0.5)) ** 2 / 2
    left: _Floats = np.divide(nats * far, far + nats * variation, out=np.zeros_like(nats), where=far > 0)
    return left


def _common(counts: _Floats, expected: _Floats, lines: NDArray[np.bool_]) -> _Floats:
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


def _are_rare(rates: Rates, config: EffectConfig) -> NDArray[np.bool_]:
    """Return which effects may grow without an insight: those of few requests, or all where the requests are new."""
    if strange_share(rates, config.strange_min) > config.strange_max:
        return np.ones(len(rates.names), np.bool_)
    rare: NDArray[np.bool_] = rates.past < config.rare_share * rates.requests[1:].sum()
    return rare


def _opened(rates: Rates, window: ServiceWindow[EffectWindow], config: EffectConfig) -> EffectEpisode | None:
    """Open an episode of all effects that have changed; None where there is none, or where the past is too short."""
    if rates.requests[0] < config.past_windows_min:
        return None
    changes = _changes(rates, config)
    found = sorted((-float(changes.nats[index]), rates.names[index], index) for index in _changed(changes, config))
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
        members=tuple(_member(rates, index, first, bool(changes.more[index])) for _, _, index in found),
        requests=sum(sum(recent.requests[1:]) for recent in interval),
        traces=merge_sampled(trace for recent in interval for trace in recent.traces),
        window_ms=window.end_ms - window.start_ms,
        info=window.table.info,
        ranges=merge_ranges(part for recent in interval for part in recent.ranges),
        windows=len(interval),
        silent=_silent(rates, len(interval)),
    )


def _leading_usual(rates: Rates, index: int, first: int, more: bool, factor: float) -> int:
    """Count the windows of the interval before the first one that shows the change."""
    counts, expected = rates.counts[index, first:], rates.expected[index, first:]
    shows = counts >= expected * factor if more else (counts * factor <= expected) & (expected > 0)
    return int(np.argmax(shows))


def _silent(rates: Rates, windows: int) -> int:
    """Count the newest windows without any line."""
    lines = [index for index, name in enumerate(rates.names) if name.startswith(LINE)]
    return int((~rates.counts[lines, -windows:].any(axis=0)).sum()) if lines else 0


def _member(rates: Rates, index: int, first: int, more: bool) -> EffectMember:
    return EffectMember(
        rates.names[index],
        more,
        float(rates.counts[index, first:].sum()),
        float(rates.expected[index, first:].sum()),
        int(rates.last_seen[index]),
    )


def _followed(
    episode: EffectEpisode, rates: Rates, window: ServiceWindow[EffectWindow], config: EffectConfig
) -> tuple[EffectEpisode, str]:
    """Return the episode after this window, and the reason of its end, or ""."""
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
    """Return the member after a window; a member that is back to usual does not change any more."""
    if old.recovery >= nats_close:
        return old
    count, expected = (old.count + now.count, old.expected + now.expected) if nats < 0 else (old.count, old.expected)
    return EffectMember(old.name, old.more, count, expected, now.last_seen_ms, max(0.0, old.recovery + nats))


def _joined(episode: EffectEpisode, rates: Rates, config: EffectConfig) -> EffectEpisode:
    """Add the effects that have changed since the episode opened."""
    known = {member.name for member in episode.members}
    changes = _changes(rates, config)
    found = [
        _member(rates, index, -1, bool(changes.more[index]))
        for index in _changed(changes, config)
        if rates.names[index] not in known
    ]
    joined = (msgspec.structs.replace(member, count=0.0, expected=0.0) for member in found)
    return msgspec.structs.replace(episode, members=(*episode.members, *joined))


def _usual_nats(now: EffectMember, factor: float) -> float:
    """Return the log-likelihood ratio of the usual rate against one `factor` times lower, or higher, in one window."""
    changed = factor if now.more else 1 / factor
    return now.expected * (changed - 1) - now.count * log(changed)


def _is_reported(before: EffectEpisode, after: EffectEpisode) -> bool:
    """Return whether the episode has an update due: at 6, 12, 24 ... windows."""
    sixths, rest = divmod(after.windows, 6)
    return after.windows > before.windows and not rest and not sixths & (sixths - 1)
