"""State of the request side effect detector."""

from typing import Final, Literal

import msgspec

from state_schemas.aggregates.requests import ShapePane
from state_schemas.aggregates.spans import Exemplar
from state_schemas.codec import zipped
from state_schemas.state.emitted import Announced
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

ShapeKind = Literal["pattern_missing", "trace_shape_change"]


class RecentPane(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A pane of the test window. requests: by `ShapeRates.operations`. ranges, traces: as in `ShapePane`."""

    start_ms: int
    requests: tuple[int, ...]
    traces: tuple[Exemplar, ...]
    ranges: tuple[OffsetRange, ...]


class ShapeRates(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What n shapes usually do, and what they did lately. All arrays are little-endian float64, row after row.

    operations: the m exposures: "" for the pane itself, then operations. requests: (m,), decaying sums of exposure.
    gram: (m, m), cross: (n, m), decaying sums of products of exposures, and of counts with exposures, each pane by its
    requests. rate: (n, m), what fits them best, per exposure. past: (n,), decaying sums of counts. scatter: (n, 2), of
    windows: of squared deviations beyond chance, and of squared expectations. runs: (n, 3), panes with requests: with
    the shape, without it since the last one, without it at the longest. recent: the panes of the test window,
    oldest first, k of them; counts: (n, k). last_seen: (n,), start of the newest pane with any, epoch ms.
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
    recent: tuple[RecentPane, ...] = ()
    counts: bytes = b""
    last_seen: bytes = b""


class ShapeMember(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A shape of an episode: lines or spans in its panes, and how many were expected. recovery: nats for its end."""

    name: str
    more: bool
    count: float
    expected: float
    last_seen_ms: int
    recovery: float = 0.0


class ShapeEpisode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An open insight. members: by strength when it opened; the first is its subject. requests: of its panes.

    panes: how many spoke for it: what it counts is of them; silent: those in which nothing at all was logged.
    """

    kind: ShapeKind
    start_ms: int
    end_ms: int
    members: tuple[ShapeMember, ...]
    requests: int
    traces: tuple[Exemplar, ...]
    facts: ServiceInfo
    ranges: tuple[OffsetRange, ...]
    pane_ms: int
    panes: int = 0
    silent: int = 0


class ShapesLearnt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known as of the last final pane, whose end is last_end_ms (0 before there is one).

    version: of the newest pane; changed_ms: end of the newest pane whose version is not that of the one before, or 0.
    """

    rates: ShapeRates = ShapeRates()
    episode: ShapeEpisode | None = None
    version: str = ""
    changed_ms: int = 0
    last_end_ms: int = 0


class ShapesState(msgspec.Struct, array_like=True, gc=False):
    """panes: not yet final.

    meaning: the parameters under which this state makes sense; under others the machine starts afresh.
    """

    meaning: str
    env: str
    service: str
    learnt: ShapesLearnt = ShapesLearnt()
    panes: dict[int, ShapePane] = msgspec.field(default_factory=dict)
    announced: dict[str, Announced] = msgspec.field(default_factory=dict)
    last_seen_ms: int = 0


SHAPES_CODEC: Final = zipped("request-shapes", ShapesState)
