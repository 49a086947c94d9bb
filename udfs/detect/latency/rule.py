"""Latency rule: one window of a service updates its baseline, its pending alerts and its episodes.

Each series (the service, its hosts, operations and callees) collects evidence window by window
(`udfs.stats.likelihood_ratio`). Enough evidence for an anomaly opens an episode, enough evidence against it closes the
episode; a level that stays becomes the new normal. Spans of a series with a pending alert are learned only after the
alert has cleared. All functions are pure: arguments are not changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.spans import (
    DIMENSION_CALLEE,
    DIMENSION_HOST,
    DIMENSION_NETWORK_TIME,
    DIMENSION_OPERATION,
    DIMENSION_SERVICE,
    RowKey,
    SpanTable,
)
from state_schemas.contracts.insight import Insight, Status
from state_schemas.state.latency import (
    AlertThresholds,
    Baseline,
    Episode,
    EvidenceWindow,
    LatencyModel,
    PendingAlert,
    SeriesHistory,
    SpikeKind,
)
from udfs.detect.latency import seasonality as season
from udfs.detect.latency.baseline import SERVICE, Reference, SpikeConfig, learn, reference
from udfs.detect.latency.report import report
from udfs.detect.service_window import ServiceWindow
from udfs.spans.window import Cells, NameLimits, Row, cells_of, merge_span_tables, only_rows, row_of, table_bytes
from udfs.stats.duration_histogram import count_from
from udfs.stats.likelihood_ratio import ALTERNATIVES, SHARE_MAX, accumulate, alternatives, evidence_nats

KINDS: Final[tuple[SpikeKind, ...]] = ("latency_spike", "error_ratio")
VERSION_NEAR_MS: Final = 120_000  # a version first seen within this time of an episode's start came with it
# Evidence of several series is often equal, as a window adds a limited amount: the series nearest to the cause wins.
NARROWEST: Final = (DIMENSION_SERVICE, DIMENSION_NETWORK_TIME, DIMENSION_CALLEE, DIMENSION_HOST, DIMENSION_OPERATION)
EVIDENCE_BYTES_MAX: Final = 160 * 1024  # compressed to a quarter when the state is written
EXPIRED: Final = "no more spans"
OUTAGE_SHARE: Final = 0.25  # share of failing requests, usually few, that is never accepted as the new normal
UNSEEN: Final = "not seen again"
ACCEPTED: Final = "the level has stayed: it is the new normal"
ACCEPTED_VERSION: Final = "the level has stayed since version {}: it is the new normal"
RECOVERED: Final = "back to usual"
_Floats = NDArray[np.float64]


class _Outcome(NamedTuple):
    """Result of a window for one kind of insight.

    cleared: pending alerts without evidence left, whose spans are learned after all.
    accepted: spans of an episode that is the new normal.
    """

    pending_alerts: dict[RowKey, PendingAlert]
    cleared: dict[RowKey, PendingAlert]
    episode: Episode | None
    candidate: Insight | None
    accepted: SpanTable | None = None


def evaluate_spans(
    model: LatencyModel, window: ServiceWindow[SpanTable], config: SpikeConfig, names: NameLimits
) -> tuple[LatencyModel, list[Insight]]:
    """Return the model after the window, and at most two candidates of each kind. O(rows + bins)."""
    usual = reference(model.baseline, season.usual_ns(model.season, window.start_ms), config)
    version = window.table.info.version or model.version
    # The first version has no known predecessor, so it explains no change.
    changed_ms = window.start_ms if model.version else 0
    since_ms = model.version_since_ms if version == model.version else changed_ms
    evidence = (*model.evidence, EvidenceWindow(window.start_ms, window.end_ms, window.table))
    pending_alerts: dict[tuple[SpikeKind, int, str], PendingAlert] = {}
    cleared: dict[RowKey, PendingAlert] = {}
    episodes: dict[SpikeKind, Episode] = {}
    candidates: list[Insight] = []
    accepted: SpanTable | None = None
    for kind in KINDS:
        episode = model.episodes.get(kind)
        mine = {(0, *key[1:]): alert for key, alert in model.pending_alerts.items() if key[0] == kind}
        if episode is not None and window.start_ms - episode.end_ms >= config.close_after_ms:
            candidates.append(report(kind, window.env, window.service, episode, "closed", UNSEEN))
            episode = None
        if episode is None:
            outcome = _weigh_pending(kind, mine, window, usual, evidence, (version, since_ms), config, names)
        else:
            others = [other for name, other in model.episodes.items() if name != kind]
            all_stay = all(window.end_ms - other.start_ms >= config.accept_ms for other in others)
            outcome = _follow(kind, episode, window, (not others, all_stay), config, names)
        pending_alerts |= {(kind, key[1], key[2]): alert for key, alert in outcome.pending_alerts.items()}
        cleared |= outcome.cleared
        candidates += [outcome.candidate] if outcome.candidate else []
        if outcome.episode:
            episodes[kind] = outcome.episode
        accepted = outcome.accepted or accepted
    pending: set[RowKey] = {(0, *key[1:]) for key in pending_alerts}
    baseline = model.baseline
    if accepted is not None:
        baseline = _accepted(accepted, window.start_ms, config)
    elif not episodes:
        usable = [part for part in evidence if part.start_ms >= model.anomalous_until_ms]
        baseline = _updated_model(baseline, window, usable, pending, cleared, config, names)
    after = LatencyModel(
        baseline=baseline,
        season=season.observe(model.season, window.table, window.start_ms),
        pending_alerts=pending_alerts,
        evidence=_evidence_windows(evidence, pending_alerts.values()),
        episodes=episodes,
        last_end_ms=window.end_ms,
        version=version,
        version_since_ms=since_ms,
        anomalous_until_ms=window.end_ms if episodes else model.anomalous_until_ms,
    )
    return after, candidates


def expire(model: LatencyModel, env: str, service: str) -> list[Insight]:
    """Return the closing candidates of the open episodes when a service is forgotten."""
    return [report(kind, env, service, episode, "closed", EXPIRED) for kind, episode in sorted(model.episodes.items())]


def _weigh_pending(
    kind: SpikeKind,
    mine: Mapping[RowKey, PendingAlert],
    window: ServiceWindow[SpanTable],
    usual: Reference,
    evidence: Sequence[EvidenceWindow],
    version: tuple[str, int],
    config: SpikeConfig,
    names: NameLimits,
) -> _Outcome:
    """Add the evidence of the window while no episode is open: open one, or clear pending alerts."""
    pending_alerts: dict[RowKey, PendingAlert] = {}
    cleared: dict[RowKey, PendingAlert] = {}
    quiet = {key for key, alert in mine.items() if window.start_ms - alert.end_ms >= config.close_after_ms}
    cleared |= {key: mine[key] for key in quiet}
    mine = {key: alert for key, alert in mine.items() if key not in quiet}
    nats = _nats(kind, mine, window, usual, config)
    for key, (thresholds, gained) in nats.items():
        before = mine.get(key) or PendingAlert(thresholds, (0.0,) * len(gained), window.start_ms, window.end_ms)
        scores = accumulate(before.scores, gained)
        end_ms = window.end_ms if max(gained) > 0 else before.end_ms
        after = PendingAlert(before.thresholds, scores, before.start_ms, end_ms)
        (pending_alerts if max(scores) > 0 else cleared)[key] = after
    pending_alerts |= {key: old for key, old in mine.items() if key not in nats}
    stale = [key for key, alert in pending_alerts.items() if window.end_ms - alert.start_ms > config.accept_ms]
    cleared |= {key: pending_alerts.pop(key) for key in stale}
    opened = _opened(kind, pending_alerts, len(usual.row_of), evidence, version, config, names)
    if opened is None:
        return _Outcome(pending_alerts, cleared, None, None)
    return _Outcome({}, {}, opened, report(kind, window.env, window.service, opened, "open"))


def _nats(
    kind: SpikeKind,
    mine: Mapping[RowKey, PendingAlert],
    window: ServiceWindow[SpanTable],
    usual: Reference,
    config: SpikeConfig,
) -> dict[RowKey, tuple[AlertThresholds, list[float]]]:
    """Return thresholds and evidence of this window for each series with a pending alert or with evidence for one."""
    of_errors = kind == "error_ratio"
    usual_rows = [usual.row_of.get(key, -1) for key in window.table.keys]
    watched = [
        key == SERVICE or (usual_row >= 0 and bool(usual.warm[usual_row]))
        for key, usual_row in zip(window.table.keys, usual_rows, strict=True)
    ]
    thresholds = [usual.thresholds(max(usual_row, 0), of_errors=of_errors) for usual_row in usual_rows]
    for row, key in enumerate(window.table.keys):
        if key in mine:
            watched[row], thresholds[row] = True, mine[key].thresholds
    cells = cells_of(window.table)
    spans = np.bincount(cells.row, weights=cells.counts, minlength=len(usual_rows)).astype(np.float64)
    tests = [(cells.errors.astype(np.float64), [limit.usual_share for limit in thresholds], config.error_share_min)]
    if not of_errors:
        levels = ([limit.threshold_bin for limit in thresholds], [limit.very_bin for limit in thresholds])
        shares = ([limit.usual_share for limit in thresholds], [limit.very_share for limit in thresholds])
        tests = [
            (_from_bin(cells, np.array(level)), share, config.slow_share_min)
            for level, share in zip(levels, shares, strict=True)
        ]
    nats = np.concatenate(
        [_test(spans, beyond, np.array(share), smallest, config) for beyond, share, smallest in tests], axis=1
    )
    wanted = np.array(watched) & ((nats.max(axis=1) > 0) | np.array([key in mine for key in window.table.keys]))
    return {window.table.keys[row]: (thresholds[row], nats[row].tolist()) for row in np.flatnonzero(wanted).tolist()}


def _from_bin(cells: Cells, first_bin: NDArray[np.int64]) -> _Floats:
    """Count the spans of each row from the row's own bin on."""
    counts = cells.counts * (cells.bins >= first_bin[cells.row])
    return np.bincount(cells.row, weights=counts, minlength=len(first_bin)).astype(np.float64)


def _test(spans: _Floats, beyond: _Floats, share: _Floats, smallest: float, config: SpikeConfig) -> _Floats:
    return evidence_nats(spans, beyond, share, alternatives(share, smallest), config.window_score_max)


def _opened(
    kind: SpikeKind,
    pending_alerts: Mapping[RowKey, PendingAlert],
    watched: int,
    evidence: Sequence[EvidenceWindow],
    version: tuple[str, int],
    config: SpikeConfig,
    names: NameLimits,
) -> Episode | None:
    """Return the episode of the series with the most evidence beyond its bound, the service itself before its parts.

    watched: number of series. version: the newest one, and the time since which it is seen.
    """
    # A test runs for each threshold and series. Each can raise a false alarm, so the bound grows with the logarithm of
    # their number. The alternatives of one threshold count the same spans: they are one test.
    bounds = {key: config.score_open + log(len(alert.scores) / ALTERNATIVES) for key, alert in pending_alerts.items()}
    excess = {
        key: max(alert.scores) - bounds[key] - (0.0 if key == SERVICE else log(watched))
        for key, alert in pending_alerts.items()
    }
    beyond_bound = [key for key in excess if excess[key] > 0]
    for key in sorted(beyond_bound, key=lambda key: (key != SERVICE, -excess[key], NARROWEST.index(key[1]), key)):
        alert = pending_alerts[key]
        parts = [part for part in evidence if alert.start_ms <= part.start_ms < alert.end_ms]
        if not parts:  # its windows are dropped; the bound has fallen since, because fewer series are watched
            continue
        table = merge_span_tables([part.table for part in parts], names, key[1:])
        row = row_of(table, *key[1:])
        if row.spans and (kind == "error_ratio" or _slow(row, alert.thresholds) > 0.05 * row.spans):
            after = [part.table for part in evidence if part.start_ms >= alert.end_ms]
            came_with_it = version[1] > 0 and abs(version[1] - parts[0].start_ms) <= VERSION_NEAR_MS
            return Episode(
                series=key[1:],
                thresholds=alert.thresholds,
                start_ms=parts[0].start_ms,
                end_ms=alert.end_ms,
                windows=1,
                recovery=0.0,
                version=version[0] if came_with_it else "",
                table=table,
                tail=merge_span_tables(after, names, key[1:]) if after else None,
            )
    return None


def _follow(
    kind: SpikeKind,
    episode: Episode,
    window: ServiceWindow[SpanTable],
    others: tuple[bool, bool],
    config: SpikeConfig,
    names: NameLimits,
) -> _Outcome:
    """Follow an open episode: close it, accept it, or update it after 3, 6, 12, 24 ... windows.

    others: whether no episode of another kind is open, and whether each open one has lasted for accept_ms. Otherwise
    nothing is accepted: the new normal would contain the anomaly of the other kind.
    """
    nats = _evidence(kind, episode, window.table, config)
    after = _extended(episode, window, nats, names)
    status, reason = _course(kind, after, others, config)
    if status is None:
        return _Outcome({}, {}, after, None)
    candidate = report(kind, window.env, window.service, after, status, reason)
    if status != "closed":
        return _Outcome({}, {}, after, candidate)
    return _Outcome({}, {}, None, candidate, None if reason == RECOVERED else after.table)


def _course(
    kind: SpikeKind, episode: Episode, others: tuple[bool, bool], config: SpikeConfig
) -> tuple[Status | None, str]:
    """Return status and reason; no status where no revision is due. Errors of a new version are not accepted early."""
    alone, all_stay = others
    if episode.recovery >= config.score_close:
        return "closed", RECOVERED
    lasted_ms = episode.end_ms - episode.start_ms
    if alone and kind == "latency_spike" and episode.version and lasted_ms >= config.accept_version_ms:
        return "closed", ACCEPTED_VERSION.format(episode.version)
    was_well = kind == "error_ratio" and not episode.thresholds.cold_start
    failing = was_well and _error_ratio(episode) >= OUTAGE_SHARE
    if all_stay and not failing and lasted_ms >= config.accept_ms:
        return "closed", ACCEPTED
    thirds, rest = divmod(episode.windows, 3)
    return ("updated" if rest == 0 and thirds & (thirds - 1) == 0 else None), ""


def _error_ratio(episode: Episode) -> float:
    row = row_of(episode.table, *episode.series)
    return row.errors / max(1, row.spans)


def _evidence(kind: SpikeKind, episode: Episode, table: SpanTable, config: SpikeConfig) -> float:
    """Return the nats of this window for the shares of the episode so far against the usual ones; 0 without spans."""
    if (0, *episode.series) not in table.keys:
        return 0.0
    row, so_far = row_of(table, *episode.series), row_of(episode.table, *episode.series)
    if not so_far.spans:
        return 0.0
    usual = episode.thresholds.usual_share
    beyond = so_far.errors if kind == "error_ratio" else _slow(so_far, episode.thresholds)
    now = row.errors if kind == "error_ratio" else _slow(row, episode.thresholds)
    seen = np.array([beyond / so_far.spans])
    smallest = config.error_share_min if kind == "error_ratio" else config.slow_share_min
    # A quarter of the share is an alternative as well: an anomaly that goes on more weakly has not ended.
    floor = alternatives(np.array([usual]), smallest)[0, 0]
    alarm = np.clip(np.stack((seen, seen / 4), axis=1), floor, SHARE_MAX)
    spans, slow, share = (np.array([float(number)]) for number in (row.spans, now, usual))
    return float(evidence_nats(spans, slow, share, alarm, config.window_score_max).max())


def _extended(episode: Episode, window: ServiceWindow[SpanTable], nats: float, names: NameLimits) -> Episode:
    """Return the episode with one more window.

    Its table ends with the last window that has evidence for the anomaly, so the insight's window and numbers agree.
    Later windows wait in `tail`.
    """
    if nats > 0:
        parts = [part for part in (episode.table, episode.tail, window.table) if part is not None]
        table, tail, end_ms = merge_span_tables(parts, names, episode.series), None, window.end_ms
    else:
        parts = [part for part in (episode.tail, window.table) if part is not None]
        table, tail, end_ms = episode.table, merge_span_tables(parts, names, episode.series), episode.end_ms
    version = window.table.info.version
    return msgspec.structs.replace(
        episode,
        windows=episode.windows + 1,
        recovery=max(0.0, episode.recovery - nats),
        version="" if version and version != episode.version else episode.version,
        table=table,
        tail=tail,
        end_ms=end_ms,
    )


def _slow(row: Row, thresholds: AlertThresholds) -> int:
    return count_from(row.bins, row.counts, thresholds.threshold_bin)


def _accepted(table: SpanTable, start_ms: int, config: SpikeConfig) -> Baseline:
    """Return a baseline of the episode alone, warm at once: otherwise the accepted level would raise an alert again."""
    fresh = learn(Baseline(), table, config.warm_windows, start_ms, config)
    known = tuple(
        SeriesHistory(entry.windows, max(entry.spans, config.warm_spans), entry.last_ms) for entry in fresh.known
    )
    return Baseline(fresh.sketch, known)


def _updated_model(
    baseline: Baseline,
    window: ServiceWindow[SpanTable],
    evidence: Sequence[EvidenceWindow],
    pending: set[RowKey],
    cleared: Mapping[RowKey, PendingAlert],
    config: SpikeConfig,
    names: NameLimits,
) -> Baseline:
    """Return the baseline after the series without a pending alert, and after those whose alert has cleared."""
    for key in sorted(cleared.keys() - pending):
        # A series can have an alert of each kind: it is learned from the alert that cleared last, so only once.
        parts = [part.table for part in evidence if part.start_ms >= cleared[key].start_ms and key in part.table.keys]
        if parts:
            own = only_rows(merge_span_tables(parts, names, key[1:]), (key,))
            baseline = learn(baseline, own, len(parts), window.start_ms, config)
    done = pending | cleared.keys()
    table = only_rows(window.table, set(window.table.keys) - done) if done else window.table
    return learn(baseline, table, 1, window.start_ms, config)


def _evidence_windows(
    evidence: Sequence[EvidenceWindow], pending_alerts: Iterable[PendingAlert]
) -> tuple[EvidenceWindow, ...]:
    """Return the windows since the oldest pending alert: at least the newest, at most EVIDENCE_BYTES_MAX."""
    oldest_ms = min((alert.start_ms for alert in pending_alerts), default=None)
    if oldest_ms is None:
        return ()
    kept: list[EvidenceWindow] = []
    size = 0
    for part in reversed(evidence):
        size += table_bytes(part.table)
        if part.start_ms < oldest_ms or (kept and size > EVIDENCE_BYTES_MAX):
            break
        kept.append(part)
    return tuple(reversed(kept))
