"""State of the latency detector for one (env, service)."""

from typing import Final, Literal, NamedTuple

import msgspec

from state_schemas.aggregates.spans import PackedSketches, Series, SpanTable
from state_schemas.codec import zipped
from state_schemas.state.detector import DetectorState, OpenEpisode

SpikeKind = Literal["latency_spike", "error_ratio"]

WEIGHT_ONE: Final = 1 << 12  # weight of a span of the newest window in the sketch of a baseline


class SeriesHistory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Amount of data that the baseline has of a series: windows and spans learned."""

    windows: int = 0
    spans: int = 0
    # Start of the newest of those windows.
    last_ms: int = 0


class Baseline(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Baseline of a service: decaying sketches of entry spans over final windows without an anomaly."""

    # The series of windows (`udfs.spans.window.entry_table`). Counts and errors are in fixed point: `WEIGHT_ONE` is one
    # span of the newest window.
    sketches: PackedSketches = PackedSketches()
    # One for each key of the sketches.
    known: tuple[SeriesHistory, ...] = ()


class Season(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """P95 of the service by hour of the week, in the last two weeks that had that hour."""

    # The last week and the one before: uint16 (168,), bins of `udfs.stats.duration_histogram`, 0 where unknown; b"" at
    # first.
    last: bytes = b""
    before: bytes = b""
    # Number of the current hour since the epoch.
    hour: int = 0
    # Spans of the service in the current hour so far: `udfs.stats.duration_histogram.pack`.
    sketch: bytes = b""


class AlertThresholds(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Thresholds of the test, fixed when a pending alert begins, so that the anomaly cannot shift them."""

    # Spans from this bin on are slow; 0 for errors.
    threshold_bin: int
    # Spans from this bin on are very slow.
    very_bin: int
    # Usual share of slow (or failing) spans, 0..1.
    usual_share: float
    # Usual share of very slow spans, 0..1.
    very_share: float
    # The usual P95, 0 while there is none.
    usual_ns: float
    cold_start: bool


class PendingAlert(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Evidence for an anomaly of a series, not enough to open an insight."""

    thresholds: AlertThresholds
    # Cumulative sums in nats, one for each alternative (`udfs.stats.likelihood_ratio`).
    scores: tuple[float, ...]
    # Start of the first window since the scores left 0.
    start_ms: int
    # End of the newest window that supports the alert.
    end_ms: int


class EvidenceWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A window, from start_ms to end_ms, that is kept with all rows as evidence while an alert is pending."""

    start_ms: int
    end_ms: int
    table: SpanTable


class Episode(OpenEpisode, frozen=True, array_like=True, gc=False):
    """An open insight."""

    kind: SpikeKind
    series: Series
    thresholds: AlertThresholds
    # A `service.version` that began with the anomaly and has been the only one since, or "".
    version: str
    # Spans from start_ms to end_ms.
    table: SpanTable
    # Spans after end_ms; they are merged into the table when a later window supports the anomaly again.
    tail: SpanTable | None = None


class SeenVersion(NamedTuple):
    """The newest `service.version`, "" before there is one; since_ms: 0 where it is the first one."""

    name: str = ""
    since_ms: int = 0


class LatencyModel(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Model of a service as of its last final window."""

    baseline: Baseline = Baseline()
    season: Season = Season()
    pending_alerts: dict[SpikeKind, dict[Series, PendingAlert]] = {}
    # Windows since the start of the oldest pending alert; the newest ones where there are too many.
    evidence: tuple[EvidenceWindow, ...] = ()
    episodes: dict[SpikeKind, Episode] = {}
    # End of the last final window, 0 before there is one.
    last_end_ms: int = 0
    version: SeenVersion = SeenVersion()
    # End of the newest window of an episode of any kind: windows before it are never learned.
    anomalous_until_ms: int = 0


LATENCY_CODEC: Final = zipped("latency-spike", DetectorState[LatencyModel, SpanTable])
