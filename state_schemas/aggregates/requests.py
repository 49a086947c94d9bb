"""Effects of requests: lines logged and calls made in a window."""

from typing import Final

import msgspec

from state_schemas.aggregates.spans import Exemplar
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

LINE: Final = "line|"  # + pattern id: the name of an effect that is a line

CALL: Final = "call|"  # + span kind (OTLP enum) | operation: the name of an effect that is a span, entry spans excluded

OTHER_REQUESTS: Final = "other"  # operations beyond their limit

# Failed requests of all operations. They are counted separately: the effects that they leave out must not raise an
# alarm of their own.
FAILED_REQUESTS: Final = "!"


class EffectWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Requests of one service in one window, and their effects. All counts are > 0."""

    # Operation -> entry spans; failed ones are counted under `FAILED_REQUESTS`.
    requests: dict[str, int] = {}
    # Name of the effect -> lines or spans.
    effects: dict[str, int] = {}
    # Name of the effect -> template; of lines only.
    templates: dict[str, str] = {}
    # The longest entry span of each of a few traces.
    traces: tuple[Exemplar, ...] = ()
    info: ServiceInfo = ServiceInfo()
    ranges: tuple[OffsetRange, ...] = ()


class EffectAggregate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Requests and effects of one service from some messages."""

    env: str
    service: str
    # (window start in epoch ms, window), ascending and distinct.
    windows: tuple[tuple[int, EffectWindow], ...]
