"""The spike rule: one pane of entry spans moves a service's baseline, its suspicions, and the episodes it announces.

Each series (the service, its hosts, its operations) collects evidence pane by pane (`udfs.stats.likelihood_ratio`).
Enough of it opens an episode of the service, enough against it closes the episode; what stays is the new normal. A
series under suspicion is not learnt unless the suspicion passes. Everything is a value: what goes in is not changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.spans import (
    DIMENSION_CALLEE,
    DIMENSION_GAP,
    DIMENSION_HOST,
    DIMENSION_OPERATION,
    DIMENSION_SERVICE,
    RowKey,
    SpanBlock,
)
from state_schemas.contracts.insight import Insight, Status
from state_schemas.state.latency import Baseline, Episode, HeldPane, Hypothesis, Known, Learnt, SpikeKind, Suspicion
from udfs.detect.latency import seasonality as season
from udfs.detect.latency.baseline import SERVICE, Reference, SpikeConfig, learn, reference
from udfs.detect.latency.report import report
from udfs.spans.window import Cells, NameLimits, Row, block_bytes, cells_of, merge_blocks, only_rows, row_of
from udfs.stats.duration_histogram import count_from
from udfs.stats.likelihood_ratio import ALTERNATIVES, SHARE_MAX, accumulate, alternatives, evidence_nats

KINDS: Final[tuple[SpikeKind, ...]] = ("latency_spike", "error_ratio")
VERSION_NEAR_MS: Final = 120_000  # a version first seen so near to an episode's start has come with it
# Of series with equal evidence (a pane adds a limited amount) the one that says most of the cause is told.
NARROWEST: Final = (DIMENSION_SERVICE, DIMENSION_GAP, DIMENSION_CALLEE, DIMENSION_HOST, DIMENSION_OPERATION)
HELD_BYTES_MAX: Final = 160 * 1024  # a quarter of that when it is written
GONE: Final = "no more spans"
OUTAGE_SHARE: Final = 0.25  # of requests that fail where few did: no new normal, however long it lasts
UNSEEN: Final = "not seen again"
ACCEPTED: Final = "the level has stayed: it is the new normal"
ACCEPTED_VERSION: Final = "the level has stayed since version {}: it is the new normal"
RECOVERED: Final = "back to usual"
_Floats = NDArray[np.float64]


class PaneOfSpans(NamedTuple):
    """Entry spans of a service in [start_ms, end_ms), as `udfs.spans.window.entry_pane` keeps them; at least one."""

    env: str
    service: str
    start_ms: int
    end_ms: int
    block: SpanBlock


class _Judged(NamedTuple):
    """What follows from a pane for one kind. cleared: suspicions that have passed, whose spans are learnt after all."""

    suspicions: dict[RowKey, Suspicion]
    cleared: dict[RowKey, Suspicion]
    episode: Episode | None
    draft: Insight | None
    accepted: SpanBlock | None = None


def watch_pane(
    learnt: Learnt, pane: PaneOfSpans, config: SpikeConfig, names: NameLimits
) -> tuple[Learnt, list[Insight]]:
    """What is known after the pane, and what it announces: at most two drafts of each kind. O(rows + bins)."""
    usual = reference(learnt.baseline, season.usual_ns(learnt.season, pane.start_ms), config)
    version = pane.block.facts.version or learnt.version
    # The first version that is ever seen came before anybody looked.
    changed_ms = pane.start_ms if learnt.version else 0
    since_ms = learnt.version_since_ms if version == learnt.version else changed_ms
    held = (*learnt.held, HeldPane(pane.start_ms, pane.end_ms, pane.block))
    suspicions: dict[tuple[SpikeKind, int, str], Suspicion] = {}
    cleared: dict[RowKey, Suspicion] = {}
    episodes: dict[SpikeKind, Episode] = {}
    drafts: list[Insight] = []
    accepted: SpanBlock | None = None
    for kind in KINDS:
        episode = learnt.episodes.get(kind)
        mine = {(0, *key[1:]): found for key, found in learnt.suspicions.items() if key[0] == kind}
        if episode is not None and pane.start_ms - episode.end_ms >= config.quiet_ms:
            drafts.append(report(kind, pane.env, pane.service, episode, "closed", UNSEEN))
            episode = None
        if episode is None:
            judged = _suspect(kind, mine, pane, usual, held, (version, since_ms), config, names)
        else:
            others = [other for name, other in learnt.episodes.items() if name != kind]
            all_stay = all(pane.end_ms - other.start_ms >= config.accept_ms for other in others)
            judged = _follow(kind, episode, pane, (not others, all_stay), config, names)
        suspicions |= {(kind, key[1], key[2]): found for key, found in judged.suspicions.items()}
        cleared |= judged.cleared
        drafts += [judged.draft] if judged.draft else []
        if judged.episode:
            episodes[kind] = judged.episode
        accepted = judged.accepted or accepted
    suspected: set[RowKey] = {(0, *key[1:]) for key in suspicions}
    baseline = learnt.baseline
    if accepted is not None:
        baseline = _accepted(accepted, pane.start_ms, config)
    elif not episodes:
        usable = [part for part in held if part.start_ms >= learnt.anomalous_until_ms]
        baseline = _learnt(baseline, pane, usable, suspected, cleared, config, names)
    after = Learnt(
        baseline=baseline,
        season=season.observe(learnt.season, pane.block, pane.start_ms),
        suspicions=suspicions,
        held=_held(held, suspicions.values()),
        episodes=episodes,
        last_end_ms=pane.end_ms,
        version=version,
        version_since_ms=since_ms,
        anomalous_until_ms=pane.end_ms if episodes else learnt.anomalous_until_ms,
    )
    return after, drafts


def expire(learnt: Learnt, env: str, service: str) -> list[Insight]:
    """Closing drafts of what is open when a service is forgotten."""
    return [report(kind, env, service, episode, "closed", GONE) for kind, episode in sorted(learnt.episodes.items())]


def _suspect(
    kind: SpikeKind,
    mine: Mapping[RowKey, Suspicion],
    pane: PaneOfSpans,
    usual: Reference,
    held: Sequence[HeldPane],
    version: tuple[str, int],
    config: SpikeConfig,
    names: NameLimits,
) -> _Judged:
    """Nothing is open: collect evidence, open, or let go."""
    suspicions: dict[RowKey, Suspicion] = {}
    cleared: dict[RowKey, Suspicion] = {}
    quiet = {key for key, found in mine.items() if pane.start_ms - found.end_ms >= config.quiet_ms}
    cleared |= {key: mine[key] for key in quiet}
    mine = {key: found for key, found in mine.items() if key not in quiet}
    nats = _nats(kind, mine, pane, usual, config)
    for key, (hypothesis, found) in nats.items():
        before = mine.get(key) or Suspicion(hypothesis, (0.0,) * len(found), pane.start_ms, pane.end_ms)
        scores = accumulate(before.scores, found)
        end_ms = pane.end_ms if max(found) > 0 else before.end_ms
        after = Suspicion(before.hypothesis, scores, before.start_ms, end_ms)
        (suspicions if max(scores) > 0 else cleared)[key] = after
    suspicions |= {key: old for key, old in mine.items() if key not in nats}
    stale = [key for key, found in suspicions.items() if pane.end_ms - found.start_ms > config.accept_ms]
    cleared |= {key: suspicions.pop(key) for key in stale}
    opened = _opened(kind, suspicions, len(usual.row_of), held, version, config, names)
    if opened is None:
        return _Judged(suspicions, cleared, None, None)
    return _Judged({}, {}, opened, report(kind, pane.env, pane.service, opened, "open"))


def _nats(
    kind: SpikeKind, mine: Mapping[RowKey, Suspicion], pane: PaneOfSpans, usual: Reference, config: SpikeConfig
) -> dict[RowKey, tuple[Hypothesis, list[float]]]:
    """Evidence of this pane for each series that is suspected or gives cause to; with what it is weighed against."""
    of_errors = kind == "error_ratio"
    places = [usual.row_of.get(key, -1) for key in pane.block.keys]
    at = np.array([max(place, 0) for place in places])
    judged = [
        key == SERVICE or (place >= 0 and bool(usual.warm[place]))
        for key, place in zip(pane.block.keys, places, strict=True)
    ]
    against = [usual.hypothesis(place, of_errors=of_errors) for place in at.tolist()]
    for row, key in enumerate(pane.block.keys):
        if key in mine:
            judged[row], against[row] = True, mine[key].hypothesis
    cells = cells_of(pane.block)
    spans = np.bincount(cells.row, weights=cells.counts, minlength=len(places)).astype(np.float64)
    tests = [(cells.errors.astype(np.float64), [found.usual_share for found in against], config.error_share_min)]
    if not of_errors:
        levels = ([found.threshold_bin for found in against], [found.very_bin for found in against])
        shares = ([found.usual_share for found in against], [found.very_share for found in against])
        tests = [
            (_from_bin(cells, np.array(level)), share, config.slow_share_min)
            for level, share in zip(levels, shares, strict=True)
        ]
    nats = np.concatenate(
        [_test(spans, beyond, np.array(share), smallest, config) for beyond, share, smallest in tests], axis=1
    )
    wanted = np.array(judged) & ((nats.max(axis=1) > 0) | np.array([key in mine for key in pane.block.keys]))
    return {pane.block.keys[row]: (against[row], nats[row].tolist()) for row in np.flatnonzero(wanted).tolist()}


def _from_bin(cells: Cells, first_bin: NDArray[np.int64]) -> _Floats:
    """Spans of each row from the row's own bin on."""
    counts = cells.counts * (cells.bins >= first_bin[cells.row])
    return np.bincount(cells.row, weights=counts, minlength=len(first_bin)).astype(np.float64)


def _test(spans: _Floats, beyond: _Floats, share: _Floats, smallest: float, config: SpikeConfig) -> _Floats:
    return evidence_nats(spans, beyond, share, alternatives(share, smallest), config.pane_score_max)


def _opened(
    kind: SpikeKind,
    suspicions: Mapping[RowKey, Suspicion],
    watched: int,
    held: Sequence[HeldPane],
    version: tuple[str, int],
    config: SpikeConfig,
    names: NameLimits,
) -> Episode | None:
    """The episode of the series with the most evidence beyond its bound, the service itself before its parts.

    version: the newest one and since when it is seen.
    """
    # As many tests run as there are thresholds and series: each may raise a false alarm, so each must show more. The
    # alternatives of one threshold weigh the same spans: they are one test.
    bounds = {key: config.score_open + log(len(found.scores) / ALTERNATIVES) for key, found in suspicions.items()}
    excess = {
        key: max(found.scores) - bounds[key] - (0.0 if key == SERVICE else log(watched))
        for key, found in suspicions.items()
    }
    found_most = [key for key in excess if excess[key] > 0]
    for key in sorted(found_most, key=lambda key: (key != SERVICE, -excess[key], NARROWEST.index(key[1]), key)):
        found = suspicions[key]
        parts = [part for part in held if found.start_ms <= part.start_ms < found.end_ms]
        if not parts:  # too long ago to be held; the bound has fallen since, as fewer series are watched
            continue
        block = merge_blocks([part.block for part in parts], names, key[1:])
        row = row_of(block, *key[1:])
        if row.spans and (kind == "error_ratio" or _slow(row, found.hypothesis) > 0.05 * row.spans):
            after = [part.block for part in held if part.start_ms >= found.end_ms]
            came_with_it = version[1] > 0 and abs(version[1] - parts[0].start_ms) <= VERSION_NEAR_MS
            return Episode(
                series=key[1:],
                hypothesis=found.hypothesis,
                start_ms=parts[0].start_ms,
                end_ms=found.end_ms,
                panes=1,
                recovery=0.0,
                version=version[0] if came_with_it else "",
                block=block,
                tail=merge_blocks(after, names, key[1:]) if after else None,
            )
    return None


def _follow(
    kind: SpikeKind,
    episode: Episode,
    pane: PaneOfSpans,
    others: tuple[bool, bool],
    config: SpikeConfig,
    names: NameLimits,
) -> _Judged:
    """Open: close it, accept it, or say how it goes at 3, 6, 12, 24 ... panes.

    others: no other kind is open; every other kind that is has stayed as well. Else nothing is accepted: the new
    normal would hold the other kind's anomaly.
    """
    nats = _evidence(kind, episode, pane.block, config)
    after = _extended(episode, pane, nats, names)
    status, reason = _course(kind, after, others, config)
    if status is None:
        return _Judged({}, {}, after, None)
    draft = report(kind, pane.env, pane.service, after, status, reason)
    if status != "closed":
        return _Judged({}, {}, after, draft)
    return _Judged({}, {}, None, draft, None if reason == RECOVERED else after.block)


def _course(
    kind: SpikeKind, episode: Episode, others: tuple[bool, bool], config: SpikeConfig
) -> tuple[Status | None, str]:
    """Status and reason; no status where there is nothing to say. That a new version fails is not soon its right."""
    alone, all_stay = others
    if episode.recovery >= config.score_close:
        return "closed", RECOVERED
    lasted_ms = episode.end_ms - episode.start_ms
    if alone and kind == "latency_spike" and episode.version and lasted_ms >= config.accept_version_ms:
        return "closed", ACCEPTED_VERSION.format(episode.version)
    was_well = kind == "error_ratio" and not episode.hypothesis.cold_start
    failing = was_well and _error_ratio(episode) >= OUTAGE_SHARE
    if all_stay and not failing and lasted_ms >= config.accept_ms:
        return "closed", ACCEPTED
    thirds, rest = divmod(episode.panes, 3)
    return ("updated" if rest == 0 and thirds & (thirds - 1) == 0 else None), ""


def _error_ratio(episode: Episode) -> float:
    row = row_of(episode.block, *episode.series)
    return row.errors / max(1, row.spans)


def _evidence(kind: SpikeKind, episode: Episode, block: SpanBlock, config: SpikeConfig) -> float:
    """Nats of this pane for what the episode has been so far, against usual; 0 where the series is not in it."""
    if (0, *episode.series) not in block.keys:
        return 0.0
    row, all_of_it = row_of(block, *episode.series), row_of(episode.block, *episode.series)
    if not all_of_it.spans:
        return 0.0
    usual = episode.hypothesis.usual_share
    beyond = all_of_it.errors if kind == "error_ratio" else _slow(all_of_it, episode.hypothesis)
    now = row.errors if kind == "error_ratio" else _slow(row, episode.hypothesis)
    seen = np.array([beyond / all_of_it.spans])
    smallest = config.error_share_min if kind == "error_ratio" else config.slow_share_min
    # Against a quarter of its strength as well: what goes on more weakly is not over.
    floor = alternatives(np.array([usual]), smallest)[0, 0]
    alarm = np.clip(np.stack((seen, seen / 4), axis=1), floor, SHARE_MAX)
    spans, slow, share = (np.array([float(number)]) for number in (row.spans, now, usual))
    return float(evidence_nats(spans, slow, share, alarm, config.pane_score_max).max())


def _extended(episode: Episode, pane: PaneOfSpans, nats: float, names: NameLimits) -> Episode:
    """The block ends with the last pane that spoke for the anomaly: its window and its numbers then agree."""
    if nats > 0:
        parts = [part for part in (episode.block, episode.tail, pane.block) if part is not None]
        block, tail, end_ms = merge_blocks(parts, names, episode.series), None, pane.end_ms
    else:
        parts = [part for part in (episode.tail, pane.block) if part is not None]
        block, tail, end_ms = episode.block, merge_blocks(parts, names, episode.series), episode.end_ms
    version = pane.block.facts.version
    return msgspec.structs.replace(
        episode,
        panes=episode.panes + 1,
        recovery=max(0.0, episode.recovery - nats),
        version="" if version and version != episode.version else episode.version,
        block=block,
        tail=tail,
        end_ms=end_ms,
    )


def _slow(row: Row, hypothesis: Hypothesis) -> int:
    return count_from(row.bins, row.counts, hypothesis.threshold_bin)


def _accepted(block: SpanBlock, start_ms: int, config: SpikeConfig) -> Baseline:
    """A baseline of the episode alone, as known as a warm one: else the accepted level would be suspected again."""
    fresh = learn(Baseline(), block, config.warm_panes, start_ms, config)
    known = tuple(Known(entry.panes, max(entry.spans, config.warm_spans), entry.last_ms) for entry in fresh.known)
    return Baseline(fresh.sketch, known)


def _learnt(
    baseline: Baseline,
    pane: PaneOfSpans,
    held: Sequence[HeldPane],
    suspected: set[RowKey],
    cleared: Mapping[RowKey, Suspicion],
    config: SpikeConfig,
    names: NameLimits,
) -> Baseline:
    """The baseline after what is not suspected, and after what no longer is."""
    for key in sorted(cleared.keys() - suspected):
        # Of an operation that is suspected on two counts, only the part that passed last: nothing is learnt twice.
        parts = [part.block for part in held if part.start_ms >= cleared[key].start_ms and key in part.block.keys]
        if parts:
            found = only_rows(merge_blocks(parts, names, key[1:]), (key,))
            baseline = learn(baseline, found, len(parts), pane.start_ms, config)
    done = suspected | cleared.keys()
    block = only_rows(pane.block, set(pane.block.keys) - done) if done else pane.block
    return learn(baseline, block, 1, pane.start_ms, config)


def _held(held: Sequence[HeldPane], suspicions: Iterable[Suspicion]) -> tuple[HeldPane, ...]:
    """The panes since the oldest suspicion; of more than HELD_BYTES_MAX the newest, at least one."""
    oldest_ms = min((found.start_ms for found in suspicions), default=None)
    if oldest_ms is None:
        return ()
    kept: list[HeldPane] = []
    size = 0
    for part in reversed(held):
        size += block_bytes(part.block)
        if part.start_ms < oldest_ms or (kept and size > HELD_BYTES_MAX):
            break
        kept.append(part)
    return tuple(reversed(kept))
