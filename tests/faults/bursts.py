"""A fleet whose agents ship every ten minutes, all at once: the spans of ten minutes come within seconds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np

from reasoner.recordings.message import Message
from reasoner.traffic.spans import SpanProfile, SpanTimes, spans

INTERVAL_MS: Final = 600_000
SHIPPED_WITHIN_MS: Final = 60_000  # by Kafka timestamps: all messages of a burst
SLOW_SERVICE: Final = 7
SLOWER_NS: Final = 400_000_000  # usual medians are 5 to 104 ms
AGENTS: Final = 32  # of a gateway Collector for some hosts; message n comes from agent n % AGENTS


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet with one planted fault: spans of SLOW_SERVICE are slower within slow_ms (from, until; after start_ms).

    spans_per_burst: a multiple of 1,000.
    """

    start_ms: int
    spans_per_burst: int
    slow_ms: tuple[int, int]

    @property
    def profile(self) -> SpanProfile:
        return SpanProfile(attributes=1, alter=self._slowed)

    def bursts(self, number: int, seed: int = 1) -> Iterator[list[Message]]:
        """Yield the messages of each burst in the order in which they are shipped."""
        count = self.spans_per_burst // self.profile.spans_per_message
        made = spans(self.profile, number * count, seed, self.start_ms, INTERVAL_MS // count)
        for burst in range(number):
            yield list(_shipped(list(islice(made, count)), self.start_ms + (burst + 1) * INTERVAL_MS, burst))

    def _slowed(self, generator: np.random.Generator, times: SpanTimes) -> None:
        first_ms, last_ms = self.slow_ms
        if first_ms <= times.timestamp_ms - self.start_ms < last_ms:
            times.start_ns[times.service == SLOW_SERVICE] -= SLOWER_NS


def _shipped(made: list[Message], ship_ms: int, burst: int) -> Iterator[Message]:
    """Yield the messages with the time of shipping: agents one after the other, in each second burst all in turn."""
    if burst % 2 == 0:
        made = [message for agent in range(AGENTS) for message in made[agent::AGENTS]]
    for number, message in enumerate(made):
        yield replace(message, timestamp_ms=ship_ms + number * SHIPPED_WITHIN_MS // len(made))
