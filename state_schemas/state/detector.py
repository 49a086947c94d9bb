"""State of the windowed detectors: one struct for all of them; model and aggregate are each detector's own."""

from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from state_schemas.contracts.insight import Insight


class Model(Protocol):
    """The history of a key as of its last final window, whose end is last_end_ms (epoch ms, 0 before there is one)."""

    @property
    def last_end_ms(self) -> int: ...


M = TypeVar("M")
A = TypeVar("A")


class RollupWindow(NamedTuple):
    """A window of a roll-up. late: of records after the allowed lateness, which are kept apart."""

    resolution_s: int
    start_ms: int
    late: bool

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.resolution_s * 1000


class EmittedInsight(msgspec.Struct, array_like=True, gc=False):
    """An insight as it went out. sent: its last revision, None before the first.

    final: as of the last *final* window that supports it, None before there is one. until_ms: end of the last window
    that supports it.
    """

    until_ms: int
    sent: Insight | None = None
    final: Insight | None = None

    @property
    def revision(self) -> int:
        """The number of the last revision, -1 before the first."""
        return -1 if self.sent is None else self.sent.revision


class DetectorState(msgspec.Struct, Generic[M, A], array_like=True, gc=False):
    """State of one key.

    fingerprint: parameters under which this state makes sense; under others the detector begins anew.
    pending: aggregates of roll-up windows that have not been written. windows: start ms -> aggregate, not yet final.
    emitted: by insight id. last_seen_ms: end of the newest window with a record in time.
    """

    fingerprint: str
    key: str
    model: M
    pending: dict[RollupWindow, list[A]]
    windows: dict[int, A]
    emitted: dict[str, EmittedInsight]
    last_seen_ms: int
