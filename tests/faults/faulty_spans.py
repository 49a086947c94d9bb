"""Spans that are faulty on purpose. Their number is fixed for each message, so the truth is arithmetic."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from reasoner.traffic.spans import SpanTimes

LATE_MS: Final = (121_000, 600_000)  # before the timestamp: beyond the default lateness of 120 s
FUTURE_MS: Final = (301_000, 3_600_000)  # after it: beyond the default bound of 300 s
TOO_OLD_MS: Final = (8 * 86_400_000, 30 * 86_400_000)  # before it: beyond the default age of 7 days


@dataclass(frozen=True, slots=True)
class BadSpans:
    """Number of spans of each message with a fault, by the default settings of the job.

    Late spans count, the others do not.
    """

    late: int = 0
    future: int = 0
    end_before_start: int = 0
    too_old: int = 0


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A slow-down: spans of a service (by its number) take `factor` times as long in messages of this time.

    start_ms, end_ms: epoch ms, half open.
    """

    service: int
    start_ms: int
    end_ms: int
    factor: float


@dataclass(frozen=True, slots=True)
class Faulty:
    """The faults of each message; a value of `SpanProfile.alter`."""

    bad: BadSpans
    slowdown: Slowdown | None = None

    def __call__(self, generator: np.random.Generator, times: SpanTimes) -> None:
        start_ns, end_ns, slow, bad = times.start_ns, times.end_ns, self.slowdown, self.bad
        if slow is not None and slow.start_ms <= times.timestamp_ms < slow.end_ms:
            hit = times.service == slow.service
            start_ns[hit] = end_ns[hit] - ((end_ns - start_ns)[hit] * slow.factor).astype(np.int64)
        numbers = (bad.late, bad.future, bad.end_before_start, bad.too_old)
        late, future, turned, old = np.split(
            generator.permutation(len(end_ns))[: sum(numbers)], np.cumsum(numbers)[:-1]
        )
        for places, (first_ms, last_ms), sign in ((late, LATE_MS, -1), (future, FUTURE_MS, 1), (old, TOO_OLD_MS, -1)):
            moved_ms = times.timestamp_ms + sign * generator.integers(first_ms, last_ms, len(places))
            start_ns[places] += moved_ms * 1_000_000 - end_ns[places]
            end_ns[places] = moved_ms * 1_000_000
        start_ns[turned] = end_ns[turned] + 1_000_000


@dataclass(frozen=True, slots=True)
class Truth:
    """Number of spans in total, and of those that are late (and count) or are rejected, by reason."""

    spans: int
    late: int
    future: int
    end_before_start: int
    too_old: int

    @property
    def rejected(self) -> int:
        return self.future + self.end_before_start + self.too_old

    @property
    def counted(self) -> int:
        """Return the number of spans that the roll-ups must contain, late ones included."""
        return self.spans - self.rejected


def truth(spans_per_message: int, bad: BadSpans, messages: int) -> Truth:
    """Return the truth about so many messages of `spans`."""
    numbers = (spans_per_message, bad.late, bad.future, bad.end_before_start, bad.too_old)
    return Truth(*(messages * number for number in numbers))
