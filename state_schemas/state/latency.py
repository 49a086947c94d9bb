"""State of the latency detector for one (env, service)."""

from typing import Final, Literal

import msgspec

from state_schemas.aggregates.spans import SpanTable
from state_schemas.codec import zipped
from state_schemas.state.detector import DetectorState

SpikeKind = Literal["latency_spike", "error_ratio"]

# What is watched: (dimension, name), `(DIMENSION_SERVICE, "")` for the service itself.
Series = tuple[int, str]

WEIGHT_ONE: Final = 1 << 12  # one fresh span in a baseline's sketch


class SeriesHistory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How well a series is known: windows and spans learned, start of the newest of those windows."""

    windows: int = 0
    spans: int = 0
    last_ms: int = 0


class Baseline(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is normal: decaying sketches of entry spans over final windows without an anomaly.

    sketch: keys (0, dimension, name), the rows of a window (`udfs.spans.window.entry_table`) with counts and errors in
    fixed point, `WEIGHT_ONE` a fresh span; no evidence. known: for each of its keys.
    """

    sketch: SpanTable = SpanTable((), b"", b"", b"", b"")
    known: tuple[SeriesHistory, ...] = ()


class Season(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """P95 of the service by hour of the week: bins of `udfs.stats.duration_histogram`, 0 where unknown; uint16 (168,),
    or b"" at first.

    last, before: of the last two weeks that had the hour. hour: number of the running hour since the epoch; sketch: its
    spans of the service so far.
    """

    last: bytes = b""
    before: bytes = b""
    hour: int = 0
    sketch: SpanTable = SpanTable((), b"", b"", b"", b"")


class AlertThresholds(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What evidence is weighed against; frozen when suspicion begins, so that it cannot move its own measure.

    threshold_bin: spans from this bin on are slow, 0 for errors; very_bin: very slow. usual_share, very_share: of slow
    (or failing) and of very slow spans while all is well. usual_ns: the usual P95, 0 while there is none.
    """

    threshold_bin: int
    very_bin: int
    usual_share: float
    very_share: float
    usual_ns: float
    cold_start: bool


class PendingAlert(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A series with evidence for an anomaly, not enough to speak. scores: nats for each alternative
    (`udfs.stats.likelihood_ratio`).

    start_ms: first window since the scores left 0; end_ms: end of the newest window that spoke for it.
    """

    thresholds: AlertThresholds
    scores: tuple[float, ...]
    start_ms: int
    end_ms: int


class EvidenceWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A window that is evidence while something is suspected: all rows, from start_ms to end_ms."""

    start_ms: int
    end_ms: int
    table: SpanTable


class Episode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An open insight. block: spans from start_ms to end_ms, the end of the last window that spoke for the anomaly.

    tail: spans after end_ms, which join the block when a later window speaks for it again. recovery: nats for its end.
    windows: how many since it opened. version: a `service.version` that came with it and has been the only one since,
    "".
    """

    series: Series
    thresholds: AlertThresholds
    start_ms: int
    end_ms: int
    windows: int
    recovery: float
    version: str
    table: SpanTable
    tail: SpanTable | None = None


class LatencyModel(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the machine knows as of its last final window, whose end is last_end_ms (0 before there is one).

    suspicions: by (kind, dimension, name). held: windows since the oldest of them, the newest where they are too many.
    version: the newest `service.version`, seen since version_since_ms. anomalous_until_ms: end of the newest window of
    an episode, whatever its kind: what lies before it is never learned.
    """

    baseline: Baseline = Baseline()
    season: Season = Season()
    pending_alerts: dict[tuple[SpikeKind, int, str], PendingAlert] = {}
    evidence: tuple[EvidenceWindow, ...] = ()
    episodes: dict[SpikeKind, Episode] = {}
    last_end_ms: int = 0
    version: str = ""
    version_since_ms: int = 0
    anomalous_until_ms: int = 0


LATENCY_CODEC: Final = zipped("latency-spike", DetectorState[LatencyModel, SpanTable])
