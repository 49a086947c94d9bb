"""Side effects of requests: lines logged and calls made in a window."""

from typing import Final

import msgspec

from state_schemas.aggregates.spans import Exemplar
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

LINE: Final = "line|"  # + pattern id: the name of a line's shape

CALL: Final = "call|"  # + span kind (OTLP enum) | operation: the name of the shape of a span that answers nobody

OTHER_REQUESTS: Final = "other"  # operations beyond their bound

FAILED_REQUESTS: Final = "!"  # of whatever operation: what a request that fails leaves out is no news of its own


class EffectWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One service in one window. requests: operation -> entry spans, failed ones apart. shapes: name -> lines or spans.

    All counts are > 0. templates: of lines, for a person. traces: the longest entry span of each of a few traces.
    """

    requests: dict[str, int] = {}
    effects: dict[str, int] = {}
    templates: dict[str, str] = {}
    traces: tuple[Exemplar, ...] = ()
    info: ServiceInfo = ServiceInfo()
    ranges: tuple[OffsetRange, ...] = ()


class EffectAggregate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What some messages say of one service. windows: (window start in epoch ms, window), ascending, distinct."""

    env: str
    service: str
    windows: tuple[tuple[int, EffectWindow], ...]
