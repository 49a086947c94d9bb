"""Sketch of durations: logarithmic bins, in the manner of DDSketch (Masson, Rim, Lee: PVLDB 12, 2019).

1 µs to 1 h in 1,140 bins of ratio 1.0195: any quantile is within 1 % of the true value (`RELATIVE_ERROR`). The bin
edges are integers that are computed with integers only, so a span falls into the same bin on every machine. Merging
adds counts: exact, associative and commutative.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

RELATIVE_ERROR: Final = 0.01
BIN_BITS: Final = 11  # 1,142 bins fit into 11 bits; the bits above them hold the row number
DURATION_NS_MIN: Final = 1_000
DURATION_NS_MAX: Final = 3_600_000_000_000


def _edges() -> NDArray[np.int64]:
    # With 32 fractional bits, the rounding of a hundred steps stays far under one nanosecond.
    edge, edges = DURATION_NS_MIN << 32, [DURATION_NS_MIN]
    while edges[-1] < DURATION_NS_MAX:
        edge = edge * 10_195 // 10_000
        edges.append(edge >> 32)
    return np.array(edges, dtype=np.int64)


EDGES_NS: Final[NDArray[np.int64]] = _edges()
BIN_UNDER: Final = 0
BIN_OVER: Final = len(EDGES_NS)
BINS: Final = BIN_OVER + 1
FINGERPRINT: Final = f"bins={BINS} growth=1.0195"  # part of the fingerprint of states that hold bins
assert BINS <= 1 << BIN_BITS, f"{BINS} bins do not fit {BIN_BITS} bits"


def _representatives() -> NDArray[np.float64]:
    # 2ab/(a+b) has the same relative distance to both edges of the bin, (b-a)/(b+a) < 1 %.
    low, high = EDGES_NS[:-1].astype(np.float64), EDGES_NS[1:].astype(np.float64)
    inner = 2 * low * high / (low + high)
    return np.concatenate(([DURATION_NS_MIN / 2], inner, [float(EDGES_NS[-1])]))


REPRESENTATIVE_NS: Final[NDArray[np.float64]] = _representatives()


def bins_of(duration_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bin of each duration: `BIN_UNDER` under 1 µs, `BIN_OVER` from 1 h on. O(n log bins)."""
    return np.searchsorted(EDGES_NS, duration_ns, side="right").astype(np.int64)


def quantile_bin(bins: NDArray[np.int64], counts: NDArray[np.int64], q: float) -> int:
    """Return the bin at rank ceil(q * n). bins: ascending, at least one, with their counts; q: 0..1."""
    assert len(bins) > 0, "no bins, expected at least one; ask for a quantile only of a row that has spans"
    cumulative = np.cumsum(counts)
    rank = max(1, int(np.ceil(q * int(cumulative[-1]))))
    return int(bins[int(np.searchsorted(cumulative, rank))])


def quantile_ns(bins: NDArray[np.int64], counts: NDArray[np.int64], q: float) -> float:
    """Return the duration at rank ceil(q * n), within RELATIVE_ERROR from 1 µs to 1 h, else the limit itself."""
    return float(REPRESENTATIVE_NS[quantile_bin(bins, counts, q)])


def count_from(bins: NDArray[np.int64], counts: NDArray[np.int64], first_bin: int) -> int:
    """Count the spans in this bin and above."""
    return int(counts[bins >= first_bin].sum())


def pack(bins: NDArray[np.int64], counts: NDArray[np.int64]) -> bytes:
    """Return the bytes of the table column `sketch`: n little-endian uint16 bins, then n little-endian int64 counts."""
    return bins.astype("<u2").tobytes() + counts.astype("<i8").tobytes()


def unpack(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (bins, counts), the inverse of `pack`. Raise ValueError where the length is not that of a sketch."""
    rows, rest = divmod(len(data), 10)
    if rest:
        message = f"sketch of {len(data)} bytes, expected a multiple of 10; read the column `sketch` as it is stored"
        raise ValueError(message)
    bins = np.frombuffer(data, "<u2", rows).astype(np.int64)
    return bins, np.frombuffer(data, "<i8", rows, 2 * rows).astype(np.int64)
