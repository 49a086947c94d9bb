"""Event time: the window of a record, and whether it is late, too old or in the future."""

from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.contracts.dead_letter import RejectReason

# Length of a detection window, the finest roll-up.
WINDOW_MS: Final = 10_000
# Allowed lateness: agents send every 5 to 60 s, and a retry waits for up to a minute.
LATENESS_MS: Final = 120_000

_NS_PER_MS: Final = 1_000_000

Time = TypeVar("Time", int, NDArray[np.int64])


class Place(msgspec.Struct, frozen=True, gc=False):
    """Place of a record in event time."""

    # Number of the record in its message.
    number: int
    # Event time, epoch ms.
    at_ms: int
    # Start of its window, epoch ms.
    start_ms: int
    late: bool


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Limits of a record's event time, relative to the Kafka timestamp of its message. All times: epoch ms."""

    # Length of a window.
    window_ms: int = WINDOW_MS
    # A record older than the timestamp - lateness_ms is `late`: it counts in the roll-ups, not in detection.
    lateness_ms: int = LATENESS_MS
    # A record newer than the timestamp + future_max_ms is rejected as `future`.
    future_max_ms: int = 300_000
    # A record older than the timestamp - age_max_ms is rejected as `too_old`: it would open table partitions of the
    # distant past (a producer that replays recorded data sets the Kafka timestamp).
    age_max_ms: int = 7 * 24 * 3_600_000

    def window_start(self, at_ms: Time) -> Time:
        """Return the start of the window of an event time."""
        return at_ms - at_ms % self.window_ms

    def late_before(self, sent_ms: Time) -> Time:
        """Return the event time before which a record of a message with this timestamp is late."""
        return sent_ms - self.lateness_ms

    def newest_ms(self, sent_ms: int) -> int:
        """Return the newest event time that is not `future`."""
        return sent_ms + self.future_max_ms

    def oldest_ms(self, sent_ms: int) -> int:
        """Return the oldest event time that is not `too_old`."""
        return sent_ms - self.age_max_ms

    def place(self, number: int, time_ns: int, sent_ms: int) -> Place:
        """Return the place of a record of a message that was sent at sent_ms."""
        at_ms = time_ns // _NS_PER_MS
        return Place(number, at_ms, self.window_start(at_ms), at_ms < self.late_before(sent_ms))

    def fault(self, at_ms: int, sent_ms: int) -> RejectReason | None:
        """Return why a record with this event time is rejected, None where it counts."""
        if at_ms == 0:
            return "no_time"
        if at_ms > self.newest_ms(sent_ms):
            return "future"
        return "too_old" if at_ms < self.oldest_ms(sent_ms) else None
