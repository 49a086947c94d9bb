"""Life cycle of an episode: after a window it goes on without a revision, or is updated, or closes."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from state_schemas.contracts.insight import Status
from state_schemas.state.detector import OpenEpisode

__all__ = ["OPEN", "UNSEEN", "Course", "Lifecycle"]

UPDATE_WINDOWS: Final = 3  # an episode is updated after 3, 6, 12, 24 ... windows


class Course(NamedTuple):
    """Status of the revision of an episode that is due, and for a closed one the reason."""

    status: Status
    reason: str = ""


OPEN: Final = Course("open")
UNSEEN: Final = Course("closed", "not seen again")


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Limits of the episodes of a detector, and the reasons with which they close."""

    # The evidence has gone; the anomaly has stayed; the key is forgotten.
    recovered: str
    accepted: str
    expired: str
    # Nats of evidence for the usual that close an episode.
    nats_close: float = 6.0
    # An episode without support for this long closes.
    close_after_ms: int = 600_000
    # An episode that lasts this long is the new normal; infinite where that is never so.
    accept_ms: float = 1_800_000

    def is_unseen(self, episode: OpenEpisode, start_ms: int) -> bool:
        """Return whether an episode closes, without support for long, before the window that starts then."""
        return start_ms - episode.end_ms >= self.close_after_ms

    def course(self, before: OpenEpisode, after: OpenEpisode) -> Course | None:
        """Return the revision that is due after a window, None for none. before, after: the episode around it."""
        if after.recovery >= self.nats_close:
            return Course("closed", self.recovered)
        if after.end_ms - after.start_ms >= self.accept_ms:
            return Course("closed", self.accepted)
        return Course("updated") if after.windows > before.windows and _is_update(after.windows) else None

    def expiry(self) -> Course:
        """Return the course of the open episodes of a key that is forgotten."""
        return Course("closed", self.expired)


def _is_update(windows: int) -> bool:
    times, rest = divmod(windows, UPDATE_WINDOWS)
    return not rest and not times & (times - 1)
