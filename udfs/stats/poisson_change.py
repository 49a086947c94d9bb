"""Test for a change of a rate: two Poisson counts with their exposures, one after the other.

The evidence is the log-likelihood ratio of two rates against one (Przyborowski and Wilenski, Biometrika 31, 1940, test
the same hypothesis). The past weighs as much as was counted in it: ten lines of yesterday prove little, ten thousand
prove much. The ratio is taken over a few intervals that end now, so that a total change of a rare line and a smaller
change of a frequent line are both found soon.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["INTERVAL_WINDOWS", "WINDOWS", "ChangeConfig", "change_nats"]

# Lengths of the intervals, in windows. One minute at least: shorter changes end before anyone can react.
WINDOWS: Final = (6, 8, 12)
INTERVAL_WINDOWS: Final = WINDOWS[-1]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChangeConfig:
    """Settings of the test for a change of a rate."""

    # Smallest ratio of the new rate to the usual one that counts as a change.
    factor: float = 2.0
    # Windows of an interval that must each show the change.
    windows_min: int = 6
    # Evidence that opens an insight, in nats; the logarithm of the number of tests is added to it. 12 nats come by
    # chance once in 160,000 times for each test.
    nats_open: float = 12.0
    # Windows older than this are in no interval.
    gap_ms: int = 600_000
    # Number of windows after which the weight of a window has fallen to 1/e.
    memory_intervals: float = 360.0

    @property
    def keep(self) -> float:
        """Return the factor by which one window reduces the weight of older ones."""
        return 1 - 1 / self.memory_intervals


def change_nats(count: _Floats, expected: _Floats, past: _Floats) -> _Floats:
    """Return the nats for a changed rate; expected: the past count, extrapolated. 0 where either of the two is 0."""
    known = (expected > 0) & (past > 0)
    exposure = np.where(known, expected, 1.0) / np.where(known, past, 1.0)  # in terms of the past
    past_if_one = (count + past) / (1 + exposure)
    nats = _xlog(count, exposure * past_if_one) + _xlog(past, past_if_one)
    return np.where(known, np.maximum(nats, 0.0), 0.0)


def _xlog(count: _Floats, if_one: _Floats) -> _Floats:
    some = count > 0
    ratio = np.where(some, count, 1.0) / np.where(some & (if_one > 0), if_one, 1.0)
    return np.where(some, count * np.log(ratio), 0.0)
