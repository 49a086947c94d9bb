"""Has a rate changed? Two Poisson counts with their exposures, one after the other.

The evidence is the log-likelihood ratio of two rates against one (Przyborowski and Wilenski, Biometrika 31, 1940, test
the same hypothesis): what is known of the past weighs by how much was seen of it, so that ten lines of yesterday prove
little and ten thousand much. It is taken over a few intervals that end now, so that a total change of a rare line and
a partial one of a frequent line are both found soon.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["INTERVAL_WINDOWS", "WINDOWS", "ChangeConfig", "change_nats"]

# Windows. A minute at least: what goes by itself within a minute is over before anybody can look.
WINDOWS: Final = (6, 8, 12)
INTERVAL_WINDOWS: Final = WINDOWS[-1]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChangeConfig:
    """factor: a change by less is none. windows_min: of a interval that must each show it.

    nats_open: against chance, to which the logarithm of the number of things watched is added: one in 160,000 times
    for each. gap_ms: windows this long ago are in no interval. memory_intervals: after so many a window weighs 1/e.
    """

    factor: float = 2.0
    windows_min: int = 6
    nats_open: float = 12.0
    gap_ms: int = 600_000
    memory_intervals: float = 360.0

    @property
    def keep(self) -> float:
        """What is left of a weight after a window."""
        return 1 - 1 / self.memory_intervals


def change_nats(count: _Floats, expected: _Floats, past: _Floats) -> _Floats:
    """Nats for another rate, where `expected` is what the past count extrapolates to; 0 where either is 0."""
    known = (expected > 0) & (past > 0)
    exposure = np.where(known, expected, 1.0) / np.where(known, past, 1.0)  # in terms of the past
    past_if_one = (count + past) / (1 + exposure)
    nats = _xlog(count, exposure * past_if_one) + _xlog(past, past_if_one)
    return np.where(known, np.maximum(nats, 0.0), 0.0)


def _xlog(count: _Floats, if_one: _Floats) -> _Floats:
    some = count > 0
    ratio = np.where(some, count, 1.0) / np.where(some & (if_one > 0), if_one, 1.0)
    return np.where(some, count * np.log(ratio), 0.0)
