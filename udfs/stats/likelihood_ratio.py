"""Test for a share of spans (slow or failing ones) that is larger than usual: evidence in nats, window by window.

The test is a cumulative sum of log-likelihood ratios (Page, Biometrika 41, 1954) over the *share* of spans beyond a
threshold, not over the P95 itself: the P95 of five spans is their maximum, while one slow span out of five is little
evidence and counts as little. Each of a few alternatives has its own sum (Lorden, Ann. Math. Stat. 42, 1971), so a
small rise of many spans and a total rise of few are both found soon.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Alternative shares of spans beyond the threshold during an anomaly, besides the smallest share that matters.
LARGER: Final = (0.5, 0.9)
ALTERNATIVES: Final = 1 + len(LARGER)
SHARE_MAX: Final = 0.97
# A normal window subtracts at most a third of what an anomalous one can add. With equal parts, an anomaly in every
# second window would never open an insight, and would be learned as normal.
GOOD_PART: Final = 1 / 3
_Floats = NDArray[np.float64]


def alternatives(usual: _Floats, smallest: float) -> _Floats:
    """Return alternative shares, (n, ALTERNATIVES): each at least twice the usual share and `smallest` / 4 above it.

    Where nearly all spans are usually beyond the threshold, usual and alternative share are equal, and no window is
    evidence.
    """
    floor = np.minimum(SHARE_MAX, np.maximum(2 * usual, usual + smallest / 4))[:, None]
    return np.maximum(np.array((smallest, *LARGER))[None, :], floor)


def evidence_nats(spans: _Floats, beyond: _Floats, usual: _Floats, alarm: _Floats, limit: float) -> _Floats:
    """Return log-likelihood ratios (n, k) of `alarm` (n, k) against `usual` for `beyond` of `spans` (each (n,)).

    Each lies between -GOOD_PART * limit and limit.
    """
    nats_beyond = np.log(alarm / usual[:, None])
    nats_within = np.log((1 - alarm) / (1 - usual[:, None]))
    ratios: _Floats = beyond[:, None] * nats_beyond + (spans - beyond)[:, None] * nats_within
    return np.clip(ratios, -GOOD_PART * limit, limit)


def accumulate(scores: Sequence[float], nats: Sequence[float]) -> tuple[float, ...]:
    """Return the cumulative sums after one more window: none falls under 0."""
    return tuple(max(0.0, score + added) for score, added in zip(scores, nats, strict=True))


def usual_share(beyond: _Floats, spans: _Floats, margin: float) -> _Floats:
    """Return an upper estimate of the usual share: `margin` times the observed one, with one span more, plus 1 %.

    The margin is there because windows of one service vary more than independent spans would; the additional span is
    there because a share of a few dozen spans is uncertain itself.
    """
    share: _Floats = np.minimum(SHARE_MAX, margin * (beyond + 1) / (spans + 2) + 0.01)
    return share
