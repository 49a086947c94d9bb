"""Limits of event time: the window of a record, and whether it is late, too old or in the future."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Limits of a record's event time, relative to the Kafka timestamp of its message."""

    # Length of a window.
    window_ms: int = 10_000
    # A record older than the timestamp - lateness_ms is `late`: it counts in the roll-ups, not in detection.
    lateness_ms: int = 120_000
    # A record newer than the timestamp + future_max_ms is rejected as `future`.
    future_max_ms: int = 300_000
    # A record older than the timestamp - age_max_ms is rejected as `too_old`: it would open table partitions of the
    # distant past (a producer that replays recorded data sets the Kafka timestamp).
    age_max_ms: int = 7 * 24 * 3_600_000
