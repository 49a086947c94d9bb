"""State of the request effect detector."""

from typing import Final, Literal

import msgspec

from state_schemas.aggregates.requests import EffectWindow
from state_schemas.aggregates.spans import Exemplar
from state_schemas.codec import zipped
from state_schemas.state.detector import DetectorState, OpenEpisode
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

EffectKind = Literal["pattern_missing", "trace_shape_change"]


class RecentWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One window of the test interval. traces, ranges: as in `EffectWindow`."""

    start_ms: int
    # One number for each of `EffectRates.exposures`.
    requests: tuple[int, ...]
    traces: tuple[Exemplar, ...]
    ranges: tuple[OffsetRange, ...]


class EffectRates(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Usual rates of effects, and their counts in the test interval."""

    names: tuple[str, ...] = ()
    # By name of the effect; of lines only.
    templates: dict[str, str] = {}
    # The exposures: "" for the window itself, then operations.
    operations: tuple[str, ...] = ("",)
    # Records of `udfs.detect.requests.rates.EXPOSURE`, one for each operation that there is room for; b"" at first.
    exposures: bytes = b""
    # The windows of the test interval, oldest first.
    recent: tuple[RecentWindow, ...] = ()
    # Records of `udfs.detect.requests.rates.EFFECT`, one for each name.
    effects: bytes = b""


class EffectMember(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An effect that has changed in an episode."""

    name: str
    # True for more than expected, False for less.
    more: bool
    # Lines or spans in the windows of the episode, and the number that was expected.
    count: float = 0.0
    expected: float = 0.0
    last_seen_ms: int = 0
    # Evidence for the end of the change, in nats.
    recovery: float = 0.0


class EffectEpisode(OpenEpisode, frozen=True, array_like=True, gc=False):
    """An open insight."""

    kind: EffectKind
    # By strength of evidence when it opened; the first is its subject.
    members: tuple[EffectMember, ...]
    # Requests in the windows that support it.
    requests: int
    traces: tuple[Exemplar, ...]
    info: ServiceInfo
    ranges: tuple[OffsetRange, ...]
    window_ms: int
    # Number of its windows without any line; all its counts are of the windows that support it.
    silent: int = 0


class EffectModel(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Model of a service as of its last final window."""

    rates: EffectRates = EffectRates()
    episode: EffectEpisode | None = None
    # Version of the service in the newest window.
    version: str = ""
    # End of the newest window whose version differs from the one before, or 0.
    changed_ms: int = 0
    # End of the last final window, 0 before there is one.
    last_end_ms: int = 0


EFFECTS_CODEC: Final = zipped("request-effects", DetectorState[EffectModel, EffectWindow])
