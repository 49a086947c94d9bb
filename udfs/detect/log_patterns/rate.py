"""Usual rate of a pattern, and the evidence that it is higher now.

The last windows are the test interval, those before them are the past (`udfs.stats.poisson_change`). A window in which
the service logs more lines below WARN than usual counts for more than one window, so more traffic with
proportionally more errors is no surge. Other errors are no measure of traffic, because errors come together.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np

from state_schemas.state.log_patterns import LineRate, ServiceLines
from udfs.stats.poisson_change import INTERVAL_WINDOWS, WINDOWS, ChangeConfig, change_nats

__all__ = ["MINUTE_MS", "Rates", "Surge", "add_rates"]

MINUTE_MS: Final = 60_000
LOAD_MAX: Final = 10.0  # a larger ratio of lines below WARN is a changed log level, not more traffic


class Surge(NamedTuple):
    """Evidence for more lines than usual: nats, and the lines of the pattern in the last `windows` windows."""

    nats: float
    windows: int
    lines: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of the patterns of a service relative to its lines, up to its newest window."""

    service: ServiceLines
    config: ChangeConfig
    window_ms: int
    # Length of the intervals by which activity is reported.
    observed_ms: int

    def after_window(self, start_ms: int, lines: int) -> "Rates":
        """Return the rates after a window with `lines` below WARN; windows before the interval become past."""
        service, keep = self.service, self.config.keep
        recent, past_lines, past_windows = list(service.recent), service.past_lines, service.past_windows
        while recent and (len(recent) >= INTERVAL_WINDOWS or recent[0][0] < start_ms - self.config.gap_ms):
            past_lines = past_lines * keep + recent.pop(0)[1]
            past_windows = past_windows * keep + 1
        recent.append((start_ms, lines))
        return self._with(ServiceLines(tuple(recent), past_lines, past_windows, service.windows + 1, service.minutes))

    def after_silence(self, start_ms: int, minutes: int) -> "Rates":
        """Return the rates before a window: active windows without lines since the newest one are added.

        minutes: active minutes, in intervals of observed_ms, that of the window included. O(INTERVAL_WINDOWS), however
        many windows are added.
        """
        service, keep = self.service, self.config.keep
        silent = self._silent_ms(start_ms, minutes) // self.window_ms
        beyond = silent - INTERVAL_WINDOWS
        if beyond > 0:
            past_lines, past_windows = service.past_lines, service.past_windows
            for _, lines in service.recent:
                past_lines, past_windows = past_lines * keep + lines, past_windows * keep + 1
            left = keep**beyond
            past_windows = past_windows * left + (1 - left) / (1 - keep)
            service = ServiceLines((), past_lines * left, past_windows, service.windows + beyond)
        rates = self._with(service)
        for number in range(min(silent, INTERVAL_WINDOWS), 0, -1):
            rates = rates.after_window(start_ms - number * self.window_ms, 0)
        return self._with(msgspec.structs.replace(rates.service, minutes=minutes))

    def _silent_ms(self, start_ms: int, minutes: int) -> int:
        """Return the active time between the newest window and the one that starts then."""
        since_ms = self.service.recent[-1][0] + self.window_ms if self.service.recent else 0
        if minutes == self.service.minutes:
            return start_ms - since_ms
        between_ms = (minutes - self.service.minutes) * MINUTE_MS - self.observed_ms
        return -since_ms % self.observed_ms + between_ms + start_ms % self.observed_ms

    def with_lines(self, rate: LineRate, lines: int) -> LineRate:
        """Return the rate after lines in the service's newest window."""
        settled = self._settled(rate)
        return msgspec.structs.replace(settled, recent=(*settled.recent, (self.service.windows - 1, lines)))

    def without_recent(self, rate: LineRate) -> LineRate:
        """Return the rate without the lines of the interval: lines of an open insight are not learned."""
        return msgspec.structs.replace(self._settled(rate), recent=())

    def usual_lines(self, rate: LineRate) -> float:
        """Return the usual lines of the pattern per window."""
        return self._settled(rate).past / max(1.0, self.service.past_windows)

    @property
    def loads(self) -> list[float]:
        """For each window of the interval the ratio of lines below WARN to the usual number, from 1 to LOAD_MAX."""
        usual = max(1.0, self.service.past_lines / max(1.0, self.service.past_windows))
        return [min(LOAD_MAX, max(1.0, lines / usual)) for _, lines in self.service.recent]

    def surge(self, rate: LineRate) -> Surge | None:
        """Return the strongest evidence for `factor` times the usual rate; None without a past or such a rate."""
        service, factor, settled = self.service, self.config.factor, self._settled(rate)
        if service.past_windows <= 0:
            return None
        lines_of = dict(settled.recent)
        counts = [lines_of.get(number, 0) for number in range(service.windows - len(service.recent), service.windows)]
        loads = self.loads
        # One line more than was counted, because the usual rate of a rare line is uncertain itself.
        past, dispersion = settled.past + 1, self._dispersion(settled)
        best: Surge | None = None
        for interval in (interval for interval in WINDOWS if interval <= len(counts)):
            lines = sum(counts[-interval:])
            expected = past / service.past_windows * sum(loads[-interval:])
            shown = sum(
                count >= factor * past / service.past_windows * load and count > 0
                for count, load in zip(counts[-interval:], loads[-interval:], strict=True)
            )
            if lines < factor * expected or shown < self.config.windows_min:
                continue
            nats = float(change_nats(np.array([lines], float), np.array([expected]), np.array([past]))[0]) / dispersion
            if best is None or nats > best.nats:
                best = Surge(nats, interval, lines)
        return best

    def _settled(self, rate: LineRate) -> LineRate:
        """Return the rate as of the service's newest window: windows before the interval are past."""
        first = self.service.windows - len(self.service.recent)
        past, squares, as_of = rate.past, rate.squares, rate.as_of
        for window, lines in (*(part for part in rate.recent if part[0] < first), (first - 1, 0)):
            left = self.config.keep ** max(0, window + 1 - as_of)
            past, squares, as_of = past * left + lines, squares * left + lines**2, max(as_of, window + 1)
        return LineRate(past, squares, as_of, tuple(part for part in rate.recent if part[0] >= first))

    def _dispersion(self, rate: LineRate) -> float:
        """Return the variance of lines per window relative to a Poisson count, at least 1: errors come in bursts."""
        variance = rate.squares - rate.past**2 / max(1.0, self.service.past_windows)
        return max(1.0, (variance + 1) / (rate.past + 1))

    def _with(self, service: ServiceLines) -> "Rates":
        return Rates(service, self.config, self.window_ms, self.observed_ms)


def add_rates(left: LineRate, right: LineRate) -> LineRate:
    """Return the rate of two patterns merged. Each is as of its own window, so the sum is exact up to their decay."""
    recent = dict(left.recent)
    for window, lines in right.recent:
        recent[window] = recent.get(window, 0) + lines
    return LineRate(
        left.past + right.past,
        left.squares + right.squares,
        max(left.as_of, right.as_of),
        tuple(sorted(recent.items())),
    )
