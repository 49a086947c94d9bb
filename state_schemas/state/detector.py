"""State of the windowed detectors: one struct for all of them; each detector has its own model and aggregate."""

from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from state_schemas.contracts.insight import Insight


class Model(Protocol):
    """Model of a key as of its last final window. last_end_ms: end of that window, epoch ms; 0 before there is one."""

    @property
    def last_end_ms(self) -> int: ...


M = TypeVar("M")
A = TypeVar("A")


class RollupWindow(NamedTuple):
    """A window of a roll-up."""

    resolution_s: int
    start_ms: int
    # True for late records, which are counted separately.
    late: bool

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.resolution_s * 1000


class EmittedInsight(msgspec.Struct, array_like=True, gc=False):
    """An insight as it was emitted."""

    # End of the last window that supports it.
    until_ms: int
    # Its last revision, None before the first.
    sent: Insight | None = None
    # The insight as of the last *final* window that supports it, None before there is one.
    final: Insight | None = None

    @property
    def revision(self) -> int:
        """Return the number of the last revision, -1 before the first."""
        return -1 if self.sent is None else self.sent.revision


class OpenEpisode(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """An open insight of any detector: the fields that decide its course."""

    start_ms: int
    # End of the newest window that supports it.
    end_ms: int
    # Number of its windows: of latency all since it opened, of others those that support it.
    windows: int = 1
    # Evidence for its end, in nats.
    recovery: float = 0.0


class DetectorState(msgspec.Struct, Generic[M, A], array_like=True, gc=False):
    """State of one key."""

    # The parameters under which this state is valid; under others the detector starts with an empty state.
    fingerprint: str
    key: str
    model: M
    # Aggregates of roll-up windows that have not been written.
    pending: dict[RollupWindow, list[A]]
    # Start in epoch ms -> aggregate, of windows that are not final.
    windows: dict[int, A]
    # By insight id.
    emitted: dict[str, EmittedInsight]
    # End of the newest window with a record that was not late.
    last_seen_ms: int
    # Event time that this key has reached. The watermark begins anew after a restore; this time does not, so that no
    # window is evaluated as if those after it had not been.
    advanced_ms: int = 0
