"""Event time: which window a record belongs to, and whether it is late, too old or in the future."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How a record's event time is judged against its message's Kafka timestamp, and cut into windows.

    lateness_ms: older than timestamp - lateness is `late`: in the roll-ups, not in detection.
    future_max_ms: beyond timestamp + this is rejected as `future`. age_max_ms: older than this is `too_old`: such a
    record would open partitions of the distant past (a producer of recordings sets the record timestamp).
    """

    window_ms: int = 10_000
    lateness_ms: int = 120_000
    future_max_ms: int = 300_000
    age_max_ms: int = 7 * 24 * 3_600_000
