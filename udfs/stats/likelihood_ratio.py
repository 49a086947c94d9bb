"""Is a share of spans (slow ones, failing ones) larger than usual? Evidence in nats, window by window.

The test is a cumulative sum of log-likelihood ratios (Page, Biometrika 41, 1954) over the *share* of spans beyond a
threshold, not over the P95 itself: the P95 of five spans is their maximum, while five spans of which one is slow are
little evidence, and are weighed as such. One sum runs for each of a few alternatives (Lorden, Ann. Math. Stat. 42,
1971): a small rise of many spans and a total one of few are then both found soon.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Shares beyond the threshold under "something is wrong", above the smallest that matters.
LARGER: Final = (0.5, 0.9)
ALTERNATIVES: Final = 1 + len(LARGER)
SHARE_MAX: Final = 0.97
# One good window takes away at most a third of what a bad one adds. Were both alike, an incident of every second window
# would never be told, and would be learned.
GOOD_PART: Final = 1 / 3
_Floats = NDArray[np.float64]


def alternatives(usual: _Floats, smallest: float) -> _Floats:
    """Alternative shares for each usual share: (n, ALTERNATIVES), each at least twice as much and `smallest` / 4 more.

    Where nearly all spans are beyond the threshold anyway the two meet, and no window is evidence of anything.
    """
    floor = np.minimum(SHARE_MAX, np.maximum(2 * usual, usual + smallest / 4))[:, None]
    return np.maximum(np.array((smallest, *LARGER))[None, :], floor)


def evidence_nats(spans: _Floats, beyond: _Floats, usual: _Floats, alarm: _Floats, limit: float) -> _Floats:
    """Log-likelihood ratios of `alarm` (n, k) against `usual` for `beyond` of `spans` (each (n,)).

    Within -GOOD_PART * limit and limit.
    """
    more = np.log(alarm / usual[:, None])
    less = np.log((1 - alarm) / (1 - usual[:, None]))
    ratios: _Floats = beyond[:, None] * more + (spans - beyond)[:, None] * less
    return np.clip(ratios, -GOOD_PART * limit, limit)


def accumulate(scores: Sequence[float], nats: Sequence[float]) -> tuple[float, ...]:
    """The sums after one more window: none falls under 0."""
    return tuple(max(0.0, score + more) for score, more in zip(scores, nats, strict=True))


def usual_share(beyond: _Floats, spans: _Floats, margin: float) -> _Floats:
    """An upper idea of the share while all is well: twice what was seen, with one span more, plus 1 %.

    Twice, because windows of one service vary more than independent spans would; one more, because a share seen in a
    few dozen spans is uncertain itself.
    """
    share: _Floats = np.minimum(SHARE_MAX, margin * (beyond + 1) / (spans + 2) + 0.01)
    return share
