"""Usual rate of a pattern, and the evidence that it is higher now.

The last windows are the test interval, those before them are the past (`udfs.stats.poisson_change`). A window in which
the service logs more lines below WARN than usual counts for more than one window, so more traffic with
proportionally more errors is no surge. Other errors are no measure of traffic, because errors come together.
"""

from typing import Final, NamedTuple

import msgspec
import numpy as np

from state_schemas.state.log_patterns import LineRate, ServiceLines
from udfs.stats.poisson_change import INTERVAL_WINDOWS, WINDOWS, ChangeConfig, change_nats

__all__ = [
    "MINUTE_MS",
    "Surge",
    "add_rates",
    "forget_recent",
    "load",
    "observe_silence",
    "observe_window",
    "surge_of",
    "usual_lines",
    "with_lines",
]

MINUTE_MS: Final = 60_000
LOAD_MAX: Final = 10.0  # a larger ratio of lines below WARN is a changed log level, not more traffic


class Surge(NamedTuple):
    """Evidence for more lines than usual: nats, and the lines of the pattern in the last `windows` windows."""

    nats: float
    windows: int
    lines: int


def observe_window(service: ServiceLines, start_ms: int, lines: int, config: ChangeConfig) -> ServiceLines:
    """Return the lines of the service after a window with `lines` below WARN; windows before the interval are past."""
    recent, past_lines, past_windows = list(service.recent), service.past_lines, service.past_windows
    while recent and (len(recent) >= INTERVAL_WINDOWS or recent[0][0] < start_ms - config.gap_ms):
        past_lines = past_lines * config.keep + recent.pop(0)[1]
        past_windows = past_windows * config.keep + 1
    return ServiceLines((*recent, (start_ms, lines)), past_lines, past_windows, service.windows + 1, service.minutes)


def observe_silence(
    service: ServiceLines, minutes: int, start_ms: int, end_ms: int, observed_ms: int, config: ChangeConfig
) -> ServiceLines:
    """Return the lines of the service before a window: active windows without lines since the newest one are added.

    minutes: active minutes, in intervals of observed_ms, that of the window included. O(INTERVAL_WINDOWS), however many
    windows are added.
    """
    window_ms = end_ms - start_ms
    silent = _silent_ms(service, minutes, start_ms, window_ms, observed_ms) // window_ms
    beyond = silent - INTERVAL_WINDOWS
    if beyond > 0:
        past_lines, past_windows = service.past_lines, service.past_windows
        for _, lines in service.recent:
            past_lines, past_windows = past_lines * config.keep + lines, past_windows * config.keep + 1
        left = config.keep**beyond
        past_windows = past_windows * left + (1 - left) / (1 - config.keep)
        service = ServiceLines((), past_lines * left, past_windows, service.windows + beyond)
    for number in range(min(silent, INTERVAL_WINDOWS), 0, -1):
        service = observe_window(service, start_ms - number * window_ms, 0, config)
    return msgspec.structs.replace(service, minutes=minutes)


def _silent_ms(service: ServiceLines, minutes: int, start_ms: int, window_ms: int, observed_ms: int) -> int:
    """Return the active time between the newest window and this one."""
    since_ms = service.recent[-1][0] + window_ms if service.recent else 0
    if minutes == service.minutes:
        return start_ms - since_ms
    between_ms = (minutes - service.minutes) * MINUTE_MS - observed_ms
    return -since_ms % observed_ms + between_ms + start_ms % observed_ms


def with_lines(rate: LineRate, service: ServiceLines, lines: int, config: ChangeConfig) -> LineRate:
    """Return the rate after lines in the service's newest window."""
    settled = _settled(rate, service, config)
    return msgspec.structs.replace(settled, recent=(*settled.recent, (service.windows - 1, lines)))


def forget_recent(rate: LineRate, service: ServiceLines, config: ChangeConfig) -> LineRate:
    """Return the rate without the lines of the interval: lines of an open insight are not learned."""
    return msgspec.structs.replace(_settled(rate, service, config), recent=())


def usual_lines(rate: LineRate, service: ServiceLines, config: ChangeConfig) -> float:
    """Return the usual lines of the pattern per window."""
    return _settled(rate, service, config).past / max(1.0, service.past_windows)


def load(service: ServiceLines) -> float:
    """Return the ratio of lines below WARN in the newest window to the usual number, from 1 to LOAD_MAX."""
    return _loads(service)[-1]


def surge_of(rate: LineRate, service: ServiceLines, config: ChangeConfig) -> Surge | None:
    """Return the strongest evidence for a rate of `factor` times the usual one; None without a past or such a rate."""
    settled = _settled(rate, service, config)
    if service.past_windows <= 0:
        return None
    lines_of = dict(settled.recent)
    counts = [lines_of.get(number, 0) for number in range(service.windows - len(service.recent), service.windows)]
    loads = _loads(service)
    # One line more than was counted, because the usual rate of a rare line is uncertain itself.
    past, dispersion = settled.past + 1, _dispersion(settled, service)
    best: Surge | None = None
    for interval in (interval for interval in WINDOWS if interval <= len(counts)):
        lines = sum(counts[-interval:])
        expected = past / service.past_windows * sum(loads[-interval:])
        shown = sum(
            count >= config.factor * past / service.past_windows * load and count > 0
            for count, load in zip(counts[-interval:], loads[-interval:], strict=True)
        )
        if lines < config.factor * expected or shown < config.windows_min:
            continue
        nats = float(change_nats(np.array([lines], float), np.array([expected]), np.array([past]))[0]) / dispersion
        if best is None or nats > best.nats:
            best = Surge(nats, interval, lines)
    return best


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


def _settled(rate: LineRate, service: ServiceLines, config: ChangeConfig) -> LineRate:
    """Return the rate as of the service's newest window: windows before the interval are past."""
    first = service.windows - len(service.recent)
    past, squares, as_of = rate.past, rate.squares, rate.as_of
    for window, lines in (*(part for part in rate.recent if part[0] < first), (first - 1, 0)):
        left = config.keep ** max(0, window + 1 - as_of)
        past, squares, as_of = past * left + lines, squares * left + lines**2, max(as_of, window + 1)
    return LineRate(past, squares, as_of, tuple(part for part in rate.recent if part[0] >= first))


def _dispersion(rate: LineRate, service: ServiceLines) -> float:
    """Return the variance of lines per window relative to a Poisson count, at least 1: errors come in bursts."""
    variance = rate.squares - rate.past**2 / max(1.0, service.past_windows)
    return max(1.0, (variance + 1) / (rate.past + 1))


def _loads(service: ServiceLines) -> list[float]:
    """Return for each window of the interval the ratio of lines below WARN to the usual number, from 1 to LOAD_MAX."""
    usual = max(1.0, service.past_lines / max(1.0, service.past_windows))
    return [min(LOAD_MAX, max(1.0, lines / usual)) for _, lines in service.recent]
