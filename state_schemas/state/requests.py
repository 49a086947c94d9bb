"""State of the request side effect detector."""

from typing import Final, Literal

import msgspec

from state_schemas.aggregates.requests import EffectWindow
from state_schemas.aggregates.spans import Exemplar
from state_schemas.codec import zipped
from state_schemas.state.detector import DetectorState
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

EffectKind = Literal["pattern_missing", "trace_shape_change"]


class RecentWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A window of the test window. requests: by `EffectRates.operations`. ranges, traces: as in `EffectWindow`."""

    start_ms: int
    requests: tuple[int, ...]
    traces: tuple[Exemplar, ...]
    ranges: tuple[OffsetRange, ...]


class EffectRates(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What n shapes usually do, and what they did lately. All arrays are little-endian float64, row after row.

    operations: the m exposures: "" for the window itself, then operations. requests: (m,), decaying sums of exposure.
    gram: (m, m), cross: (n, m), decaying sums of products of exposures, and of counts with exposures, each window by
    its requests. rate: (n, m), what fits them best, per exposure. past: (n,), decaying sums of counts. scatter: (n,
    2), of
    windows: of squared deviations beyond chance, and of squared expectations. runs: (n, 3), windows with requests: with
    the shape, without it since the last one, without it at the longest. recent: the windows of the test window,
    oldest first, k of them; counts: (n, k). last_seen: (n,), start of the newest window with any, epoch ms.
    """

    names: tuple[str, ...] = ()
    templates: dict[str, str] = {}
    operations: tuple[str, ...] = ("",)
    requests: bytes = bytes(8)
    gram: bytes = bytes(8)
    cross: bytes = b""
    rate: bytes = b""
    past: bytes = b""
    scatter: bytes = b""
    runs: bytes = b""
    recent: tuple[RecentWindow, ...] = ()
    counts: bytes = b""
    last_seen: bytes = b""


class EffectMember(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A shape of an episode: lines or spans in its windows, and how many were expected. recovery: nats for its end."""

    name: str
    more: bool
    count: float
    expected: float
    last_seen_ms: int
    recovery: float = 0.0


class EffectEpisode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An open insight. members: by strength when it opened; the first is its subject. requests: of its windows.

    windows: how many spoke for it: what it counts is of them; silent: those in which nothing at all was logged.
    """

    kind: EffectKind
    start_ms: int
    end_ms: int
    members: tuple[EffectMember, ...]
    requests: int
    traces: tuple[Exemplar, ...]
    info: ServiceInfo
    ranges: tuple[OffsetRange, ...]
    window_ms: int
    windows: int = 0
    silent: int = 0


class EffectModel(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known as of the last final window, whose end is last_end_ms (0 before there is one).

    version: of the newest window; changed_ms: end of the newest window whose version is not that of the one before, or
    0.
    """

    rates: EffectRates = EffectRates()
    episode: EffectEpisode | None = None
    version: str = ""
    changed_ms: int = 0
    last_end_ms: int = 0


EFFECTS_CODEC: Final = zipped("request-shapes", DetectorState[EffectModel, EffectWindow])
