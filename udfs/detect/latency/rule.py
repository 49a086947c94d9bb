"""Latency rule: one window of a service updates its baseline, its pending alerts and its episodes.

Each series (the service, its hosts, operations and callees) collects evidence window by window
(`udfs.stats.likelihood_ratio`). Enough evidence for an anomaly opens an episode, enough evidence against it closes the
episode; a level that stays becomes the new normal. Spans of a series with a pending alert are learned only after the
alert has cleared. All functions are pure: arguments are not changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, log
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.spans import SERVICE, Dimension, Series, SpanTable
from state_schemas.contracts.insight import Insight
from state_schemas.state.latency import (
    Baseline,
    Episode,
    EvidenceWindow,
    LatencyModel,
    PendingAlert,
    SeenVersion,
    SeriesHistory,
    SpikeKind,
)
from udfs.detect.latency import seasonality as season
from udfs.detect.latency.baseline import Learning, SpikeConfig, reference
from udfs.detect.latency.report import anomalous_spans, report
from udfs.detect.lifecycle import OPEN, UNSEEN, Course
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.spans.sketches import Sketch, Sketches
from udfs.spans.window import merge_span_tables, table_bytes
from udfs.stats.likelihood_ratio import ALTERNATIVES, SHARE_MAX, accumulate, alternatives, evidence_nats

KINDS: Final[tuple[SpikeKind, ...]] = ("latency_spike", "error_ratio")
VERSION_NEAR_MS: Final = 120_000  # a version first seen within this time of an episode's start came with it
# Evidence of several series is often equal, as a window adds a limited amount: the series nearest to the cause wins.
NARROWEST: Final = (
    Dimension.SERVICE,
    Dimension.NETWORK_TIME,
    Dimension.CALLEE,
    Dimension.HOST,
    Dimension.OPERATION,
)
EVIDENCE_BYTES_MAX: Final = 160 * 1024  # compressed to a quarter when the state is written
OUTAGE_SHARE: Final = 0.25  # share of failing requests, usually few, that is never accepted as the new normal
SLOW_SHARE_VISIBLE: Final = 0.05  # share of slow spans beyond which an episode opens: its P95 is above the threshold
ACCEPTED_VERSION: Final = "the level has stayed since version {}: it is the new normal"
_Floats = NDArray[np.float64]


def evaluate_spans(
    model: LatencyModel, window: ServiceWindow[SpanTable], config: SpikeConfig
) -> tuple[LatencyModel, list[Insight]]:
    """Return the model after the window, and at most two candidates of each kind. O(rows + bins)."""
    evaluation = _Evaluation(model, window, config)
    for kind in KINDS:
        evaluation.judge(kind)
    return evaluation.model_after(), evaluation.candidates


def expire(key: ServiceKey, model: LatencyModel, config: SpikeConfig) -> list[Insight]:
    """Return the closing candidates of the open episodes when a service is forgotten."""
    return [report(key, episode, config.life.expiry()) for _, episode in sorted(model.episodes.items())]


class _Evaluation:
    """One window of a service and the model before it; `judge` adds to `candidates` and to the fields below it."""

    def __init__(self, before: LatencyModel, window: ServiceWindow[SpanTable], config: SpikeConfig) -> None:
        self.before = before
        self.window = window
        self.config = config
        self.life = config.life
        self.rows = Sketches.unpack(window.table.sketches)
        self.usual = reference(before.baseline, season.usual_ns(before.season, window.start_ms), config)
        self.evidence = (*before.evidence, EvidenceWindow(window.start_ms, window.end_ms, window.table))
        self.version = _version_after(before.version, window)
        self.candidates: list[Insight] = []
        self.pending: dict[SpikeKind, dict[Series, PendingAlert]] = {}
        # Pending alerts without evidence left, whose spans are learned after all.
        self.cleared: dict[Series, PendingAlert] = {}
        self.episodes: dict[SpikeKind, Episode] = {}
        # Spans of an episode that is the new normal.
        self.accepted: SpanTable | None = None

    def judge(self, kind: SpikeKind) -> None:
        """Follow the open episode of a kind, or collect evidence for one."""
        episode = self.before.episodes.get(kind)
        if episode is not None and self.life.is_unseen(episode, self.window.start_ms):
            self._report(episode, UNSEEN)
            episode = None
        if episode is None:
            self._weigh(kind)
        else:
            self._follow(episode)

    def model_after(self) -> LatencyModel:
        window = self.window
        return LatencyModel(
            baseline=self._baseline_after(),
            season=season.observe(self.before.season, self.rows.sketch(SERVICE), window.start_ms),
            pending_alerts=self.pending,
            evidence=self._evidence_after(),
            episodes=self.episodes,
            last_end_ms=window.end_ms,
            version=self.version,
            anomalous_until_ms=window.end_ms if self.episodes else self.before.anomalous_until_ms,
        )

    def _report(self, episode: Episode, course: Course) -> None:
        self.candidates.append(report(self.window.key, episode, course))

    def _merged(self, tables: Sequence[SpanTable], series: Series) -> SpanTable:
        return merge_span_tables(tables, self.config.names, series)

    # Without an open episode.

    def _weigh(self, kind: SpikeKind) -> None:
        """Add the evidence of the window to the pending alerts of a kind: open an episode, or clear alerts."""
        window, life = self.window, self.life
        alerts = self.before.pending_alerts.get(kind, {})
        held = {key: alert for key, alert in alerts.items() if window.start_ms - alert.end_ms < life.close_after_ms}
        after = held | self._grown(kind, held)
        pending = {
            key: alert
            for key, alert in after.items()
            if max(alert.scores) > 0 and window.end_ms - alert.start_ms <= life.accept_ms
        }
        opened = self._opened(kind, pending)
        if opened is None:
            self.pending[kind] = pending
            self.cleared |= {key: alert for key, alert in (alerts | after).items() if key not in pending}
        else:
            self.episodes[kind] = opened
            self._report(opened, OPEN)

    def _grown(self, kind: SpikeKind, alerts: Mapping[Series, PendingAlert]) -> dict[Series, PendingAlert]:
        """Return the alerts of all series of this window that have an alert already or give evidence for one."""
        window = self.window
        rows = self.rows.only({key for key in self.rows.keys if self._is_watched(key) or key in alerts})
        limits = [alerts[key].thresholds if key in alerts else self.usual.thresholds(kind, key) for key in rows.keys]
        usual, very, first, first_very = (
            np.array([getattr(limit, name) for limit in limits])
            for name in ("usual_share", "very_share", "threshold_bin", "very_bin")
        )
        if kind == "error_ratio":
            nats = self._nats(kind, rows, rows.errors, usual)
        else:
            slow, very_slow = rows.spans_from(first), rows.spans_from(first_very)
            nats = np.concatenate(
                (self._nats(kind, rows, slow, usual), self._nats(kind, rows, very_slow, very)), axis=1
            )
        grown = {}
        for key, limit, gained in zip(rows.keys, limits, nats.tolist(), strict=True):
            if key in alerts or max(gained) > 0:
                new = PendingAlert(limit, (0.0,) * len(gained), window.start_ms, window.end_ms)
                alert = alerts.get(key, new)
                end_ms = window.end_ms if max(gained) > 0 else alert.end_ms
                scores = accumulate(alert.scores, gained)
                grown[key] = PendingAlert(alert.thresholds, scores, alert.start_ms, end_ms)
        return grown

    def _is_watched(self, key: Series) -> bool:
        return key == SERVICE or self.usual.is_warm(key)

    def _nats(self, kind: SpikeKind, rows: Sketches, beyond: NDArray[np.int64], usual: _Floats) -> _Floats:
        """Return the evidence of each row (n, ALTERNATIVES). beyond: spans beyond a threshold. usual: their share."""
        alarm = alternatives(usual, self.config.share_min(kind))
        spans = rows.spans().astype(np.float64)
        return evidence_nats(spans, beyond.astype(np.float64), usual, alarm, self.config.window_score_max)

    def _opened(self, kind: SpikeKind, alerts: Mapping[Series, PendingAlert]) -> Episode | None:
        """Return the episode of the series with the most evidence beyond its bound, the service before others."""
        excess = {key: self._excess(key, alert) for key, alert in alerts.items()}
        beyond_bound = [key for key in excess if excess[key] > 0]
        for key in sorted(
            beyond_bound, key=lambda key: (key != SERVICE, -excess[key], NARROWEST.index(key.dimension), key)
        ):
            episode = self._episode(kind, key, alerts[key])
            if episode is not None:
                return episode
        return None

    def _excess(self, key: Series, alert: PendingAlert) -> float:
        """Return the evidence beyond the bound, in nats."""
        # A test runs for each threshold and series. Each can raise a false alarm, so the bound grows with the logarithm
        # of their number. The alternatives of one threshold count the same spans: they are one test.
        bound = self.config.score_open + log(len(alert.scores) / ALTERNATIVES)
        return max(alert.scores) - bound - (0.0 if key == SERVICE else log(len(self.usual.row_of)))

    def _episode(self, kind: SpikeKind, series: Series, alert: PendingAlert) -> Episode | None:
        """Return the episode of a series; None where it has no spans or where too few of them are slow."""
        parts = [part for part in self.evidence if alert.start_ms <= part.start_ms < alert.end_ms]
        if not parts:  # its windows are dropped; the bound has fallen since, because fewer series are watched
            return None
        start_ms = parts[0].start_ms
        after = [part.table for part in self.evidence if part.start_ms >= alert.end_ms]
        came_with_it = self.version.since_ms > 0 and abs(self.version.since_ms - start_ms) <= VERSION_NEAR_MS
        episode = Episode(
            kind=kind,
            series=series,
            thresholds=alert.thresholds,
            start_ms=start_ms,
            end_ms=alert.end_ms,
            version=self.version.name if came_with_it else "",
            table=self._merged([part.table for part in parts], series),
            tail=self._merged(after, series) if after else None,
        )
        own = _own(episode)
        is_visible = kind == "error_ratio" or anomalous_spans(episode, own) > SLOW_SHARE_VISIBLE * own.spans
        return episode if own.spans and is_visible else None

    # With an open episode.

    def _follow(self, episode: Episode) -> None:
        """Close an open episode, accept it, or update it after 3, 6, 12, 24 ... windows."""
        after = self._extended(episode)
        course = self._course(episode, after)
        if course is not None:
            self._report(after, course)
        if course is None or course.status != "closed":
            self.episodes[after.kind] = after
        elif course.reason != self.life.recovered:
            self.accepted = after.table

    def _course(self, before: Episode, after: Episode) -> Course | None:
        """Return the revision that is due, None for none. Errors of a new version are not accepted early.

        Nothing is accepted beside an open episode of another kind that has not lasted for accept_ms: the new normal
        would contain the anomaly of the other kind.
        """
        others = [other for kind, other in self.before.episodes.items() if kind != after.kind]
        is_latency, lasted_ms = after.kind == "latency_spike", after.end_ms - after.start_ms
        came_with_version = is_latency and after.version and lasted_ms >= self.config.accept_version_ms
        if after.recovery < self.life.nats_close and not others and came_with_version:
            return Course("closed", ACCEPTED_VERSION.format(after.version))
        own = _own(after)
        was_well = not is_latency and not after.thresholds.cold_start
        failing = was_well and own.errors >= OUTAGE_SHARE * max(1, own.spans)
        all_stay = all(self.window.end_ms - other.start_ms >= self.life.accept_ms for other in others)
        life = self.life if all_stay and not failing else replace(self.life, accept_ms=inf)
        return life.course(before, after)

    def _recovery_nats(self, episode: Episode) -> float:
        """Return the nats of this window for the share of the episode so far against the usual one; 0 without spans."""
        now, so_far = self.rows.sketch(episode.series), _own(episode)
        if not now.spans or not so_far.spans:
            return 0.0
        usual = np.array([episode.thresholds.usual_share])
        seen = np.array([anomalous_spans(episode, so_far) / so_far.spans])
        # A quarter of the share is an alternative as well: an anomaly that goes on more weakly has not ended.
        floor = alternatives(usual, self.config.share_min(episode.kind))[0, 0]
        alarm = np.clip(np.stack((seen, seen / 4), axis=1), floor, SHARE_MAX)
        spans, beyond = np.array([float(now.spans)]), np.array([float(anomalous_spans(episode, now))])
        return float(evidence_nats(spans, beyond, usual, alarm, self.config.window_score_max).max())

    def _extended(self, episode: Episode) -> Episode:
        """Return the episode with one more window.

        Its table ends with the last window that has evidence for the anomaly, so the insight's window and numbers
        agree. Later windows wait in `tail`.
        """
        nats = self._recovery_nats(episode)
        version = self.window.table.info.version
        waiting = [self.window.table] if episode.tail is None else [episode.tail, self.window.table]
        after = msgspec.structs.replace(
            episode,
            windows=episode.windows + 1,
            recovery=max(0.0, episode.recovery - nats),
            version="" if version and version != episode.version else episode.version,
        )
        if nats <= 0:
            return msgspec.structs.replace(after, tail=self._merged(waiting, episode.series))
        table = self._merged([episode.table, *waiting], episode.series)
        return msgspec.structs.replace(after, table=table, tail=None, end_ms=self.window.end_ms)

    # Of all kinds.

    def _baseline_after(self) -> Baseline:
        """Return the baseline after the series without a pending alert, and after those whose alert has cleared."""
        learning, baseline = Learning(self.config, self.window.start_ms), self.before.baseline
        if self.accepted is not None:
            return self._accepted(self.accepted, learning)
        if self.episodes:
            return baseline
        usable = [part for part in self.evidence if part.start_ms >= self.before.anomalous_until_ms]
        pending = {key for alerts in self.pending.values() for key in alerts}
        for key in sorted(self.cleared.keys() - pending):
            # A series can have an alert of each kind: it is learned from the alert that cleared last, so only once.
            since_ms = self.cleared[key].start_ms
            parts = [part.table for part in usable if part.start_ms >= since_ms and key in part.table.keys]
            if parts:
                own = Sketches.unpack(self._merged(parts, key).sketches).only((key,))
                baseline = learning.learn(baseline, own, len(parts))
        done = pending | self.cleared.keys()
        return learning.learn(baseline, self.rows.only(set(self.rows.keys) - done))

    def _accepted(self, table: SpanTable, learning: Learning) -> Baseline:
        """Return a baseline of the episode alone, warm at once: else the accepted level would raise an alert again."""
        fresh = learning.learn(Baseline(), Sketches.unpack(table.sketches), self.config.warm_windows)
        known = tuple(
            SeriesHistory(entry.windows, max(entry.spans, self.config.warm_spans), entry.last_ms)
            for entry in fresh.known
        )
        return Baseline(fresh.sketches, known)

    def _evidence_after(self) -> tuple[EvidenceWindow, ...]:
        """Return the windows since the oldest pending alert: at least the newest, at most EVIDENCE_BYTES_MAX."""
        starts = (alert.start_ms for pending in self.pending.values() for alert in pending.values())
        oldest_ms = min(starts, default=None)
        if oldest_ms is None:
            return ()
        kept: list[EvidenceWindow] = []
        size = 0
        for part in reversed(self.evidence):
            size += table_bytes(part.table)
            if part.start_ms < oldest_ms or (kept and size > EVIDENCE_BYTES_MAX):
                break
            kept.append(part)
        return tuple(reversed(kept))


def _own(episode: Episode) -> Sketch:
    """Return the spans of the episode's own series."""
    return Sketches.unpack(episode.table.sketches).sketch(episode.series)


def _version_after(seen: SeenVersion, window: ServiceWindow[SpanTable]) -> SeenVersion:
    name = window.table.info.version
    if name in ("", seen.name):
        return seen
    # The first version has no known predecessor, so it explains no change.
    return SeenVersion(name, window.start_ms if seen.name else 0)
