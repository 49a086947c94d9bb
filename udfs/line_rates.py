"""How often a pattern is usually logged, and whether it is more often now.

A surge is weighed like a spike (`udfs.evidence`), as a cumulative sum of log-likelihood ratios (Page, Biometrika 41,
1954), here of Poisson counts: three lines where one an hour is usual are little evidence, and are weighed as such.
"""

from dataclasses import dataclass
from math import log

from state_schemas.patterns import LineRate

__all__ = ["RateConfig", "add_rates", "is_known", "observe", "surge_nats", "usual_lines"]


@dataclass(frozen=True, slots=True)
class RateConfig:
    """margin: times the seen rate is still usual, as panes vary more than Poisson counts; ratio: of that, a surge.

    lines_min: the usual lines of a pane are not taken for less. memory_panes: after so many a pane weighs 1/e.
    panes_min: seen before a surge is spoken of. pane_nats_max: what one pane can add, so that three must agree.
    """

    margin: float = 2.0
    ratio: float = 2.0
    lines_min: float = 0.2
    memory_panes: float = 360.0
    panes_min: float = 30.0
    pane_nats_max: float = 6.0


def usual_lines(rate: LineRate, pane: int, config: RateConfig) -> float:
    """Expected lines in this pane of the service."""
    now = _until(rate, pane, config)
    return max(config.lines_min, (now.lines + 1) / (now.panes + 1))


def is_known(rate: LineRate, pane: int, config: RateConfig) -> bool:
    return _until(rate, pane, config).panes >= config.panes_min


def observe(rate: LineRate, pane: int, lines: int, config: RateConfig) -> LineRate:
    """The rate after this pane of the service, with so many lines."""
    now = _until(rate, pane, config)
    keep = 1 - 1 / config.memory_panes
    return LineRate(now.lines * keep + lines, now.panes * keep + 1, pane + 1)


def surge_nats(lines: int, usual: float, config: RateConfig) -> float:
    """Log-likelihood ratio of `ratio` times as much against margin * usual."""
    at_most = config.margin * usual
    nats = lines * log(config.ratio) - at_most * (config.ratio - 1)
    return max(-config.pane_nats_max, min(config.pane_nats_max, nats))


def add_rates(left: LineRate, right: LineRate) -> LineRate:
    """Of two patterns as one; each as of its own pane, so this is right to within a decay."""
    return LineRate(left.lines + right.lines, max(left.panes, right.panes), max(left.as_of, right.as_of))


def _until(rate: LineRate, pane: int, config: RateConfig) -> LineRate:
    """The rate before this pane: those skipped had no line."""
    keep = (1 - 1 / config.memory_panes) ** max(0, pane - rate.as_of)
    return LineRate(rate.lines * keep, rate.panes * keep + config.memory_panes * (1 - keep), pane)
