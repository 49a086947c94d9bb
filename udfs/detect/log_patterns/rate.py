"""How often a pattern is usually logged, and whether it is more often now.

The last panes are the test window, what is before them is the past (`udfs.stats.poisson_change`). A pane in which the
service logs more quiet lines than usual counts for more than one, so that more traffic with its errors is no surge.
Other errors are no measure of traffic: they come together.
"""

from typing import Final, NamedTuple

import msgspec
import numpy as np

from state_schemas.state.log_patterns import LineRate, ServiceLines
from udfs.stats.poisson_change import WINDOW_PANES, WINDOWS, ChangeConfig, change_nats

__all__ = [
    "MINUTE_MS",
    "Surge",
    "add_rates",
    "forget_recent",
    "heard",
    "load",
    "observe_pane",
    "observe_silence",
    "surge_of",
    "usual_lines",
]

MINUTE_MS: Final = 60_000
LOAD_MAX: Final = 10.0  # more quiet lines than that are another log level, not more traffic


class Surge(NamedTuple):
    """Nats for more lines than usual, shown by the last `panes` panes with `lines` of the pattern."""

    nats: float
    panes: int
    lines: int


def observe_pane(service: ServiceLines, start_ms: int, lines: int, config: ChangeConfig) -> ServiceLines:
    """The service after a pane with so many quiet lines: what leaves the window is past."""
    recent, past_lines, past_panes = list(service.recent), service.past_lines, service.past_panes
    while recent and (len(recent) >= WINDOW_PANES or recent[0][0] < start_ms - config.gap_ms):
        past_lines = past_lines * config.keep + recent.pop(0)[1]
        past_panes = past_panes * config.keep + 1
    return ServiceLines((*recent, (start_ms, lines)), past_lines, past_panes, service.panes + 1, service.minutes)


def observe_silence(
    service: ServiceLines, minutes: int, start_ms: int, end_ms: int, heard_ms: int, config: ChangeConfig
) -> ServiceLines:
    """The service before a pane, after those without any line since the newest, in the minutes that were heard.

    minutes: how many were, heard_ms at a time, with those of the pane. O(test window), however many panes.
    """
    pane_ms = end_ms - start_ms
    silent = _silent_ms(service, minutes, start_ms, pane_ms, heard_ms) // pane_ms
    beyond = silent - WINDOW_PANES
    if beyond > 0:
        past_lines, past_panes = service.past_lines, service.past_panes
        for _, lines in service.recent:
            past_lines, past_panes = past_lines * config.keep + lines, past_panes * config.keep + 1
        left = config.keep**beyond
        past_panes = past_panes * left + (1 - left) / (1 - config.keep)
        service = ServiceLines((), past_lines * left, past_panes, service.panes + beyond)
    for number in range(min(silent, WINDOW_PANES), 0, -1):
        service = observe_pane(service, start_ms - number * pane_ms, 0, config)
    return msgspec.structs.replace(service, minutes=minutes)


def _silent_ms(service: ServiceLines, minutes: int, start_ms: int, pane_ms: int, heard_ms: int) -> int:
    since_ms = service.recent[-1][0] + pane_ms if service.recent else 0
    if minutes == service.minutes:
        return start_ms - since_ms
    between_ms = (minutes - service.minutes) * MINUTE_MS - heard_ms
    return -since_ms % heard_ms + between_ms + start_ms % heard_ms


def heard(rate: LineRate, service: ServiceLines, lines: int, config: ChangeConfig) -> LineRate:
    """The rate after lines in the service's newest pane."""
    at = _settled(rate, service, config)
    return msgspec.structs.replace(at, recent=(*at.recent, (service.panes - 1, lines)))


def forget_recent(rate: LineRate, service: ServiceLines, config: ChangeConfig) -> LineRate:
    """The rate as if the panes of the window had held none: what an open insight counts teaches nothing."""
    return msgspec.structs.replace(_settled(rate, service, config), recent=())


def usual_lines(rate: LineRate, service: ServiceLines, config: ChangeConfig) -> float:
    """Lines of the pattern in a usual pane."""
    return _settled(rate, service, config).past / max(1.0, service.past_panes)


def load(service: ServiceLines) -> float:
    """Quiet lines of the newest pane in terms of usual, at least 1."""
    return _loads(service)[-1]


def surge_of(rate: LineRate, service: ServiceLines, config: ChangeConfig) -> Surge | None:
    """The strongest evidence for more than `factor` times the usual; None where nothing is usual, or it is not more."""
    at = _settled(rate, service, config)
    if service.past_panes <= 0:
        return None
    found = dict(at.recent)
    counts = [found.get(number, 0) for number in range(service.panes - len(service.recent), service.panes)]
    loads = _loads(service)
    # One line more than was seen: what is usual of a rare line is uncertain itself.
    past, dispersion = at.past + 1, _dispersion(at, service)
    best: Surge | None = None
    for window in (window for window in WINDOWS if window <= len(counts)):
        lines = sum(counts[-window:])
        expected = past / service.past_panes * sum(loads[-window:])
        shown = sum(
            count >= config.factor * past / service.past_panes * load and count > 0
            for count, load in zip(counts[-window:], loads[-window:], strict=True)
        )
        if lines < config.factor * expected or shown < config.panes_min:
            continue
        nats = float(change_nats(np.array([lines], float), np.array([expected]), np.array([past]))[0]) / dispersion
        if best is None or nats > best.nats:
            best = Surge(nats, window, lines)
    return best


def add_rates(left: LineRate, right: LineRate) -> LineRate:
    """Of two patterns as one; each as of its own pane, so this is right to within a decay."""
    recent = dict(left.recent)
    for pane, lines in right.recent:
        recent[pane] = recent.get(pane, 0) + lines
    return LineRate(
        left.past + right.past,
        left.squares + right.squares,
        max(left.as_of, right.as_of),
        tuple(sorted(recent.items())),
    )


def _settled(rate: LineRate, service: ServiceLines, config: ChangeConfig) -> LineRate:
    """The rate as of the service's newest pane: what has left the window is past."""
    first = service.panes - len(service.recent)
    past, squares, as_of = rate.past, rate.squares, rate.as_of
    for pane, lines in (*(part for part in rate.recent if part[0] < first), (first - 1, 0)):
        left = config.keep ** max(0, pane + 1 - as_of)
        past, squares, as_of = past * left + lines, squares * left + lines**2, max(as_of, pane + 1)
    return LineRate(past, squares, as_of, tuple(part for part in rate.recent if part[0] >= first))


def _dispersion(rate: LineRate, service: ServiceLines) -> float:
    """How much more the lines of a pane vary than a Poisson count would, at least 1: errors come in bursts."""
    variance = rate.squares - rate.past**2 / max(1.0, service.past_panes)
    return max(1.0, (variance + 1) / (rate.past + 1))


def _loads(service: ServiceLines) -> list[float]:
    """For each pane of the window: quiet lines in terms of usual, at least 1, at most LOAD_MAX."""
    usual = max(1.0, service.past_lines / max(1.0, service.past_panes))
    return [min(LOAD_MAX, max(1.0, lines / usual)) for _, lines in service.recent]
