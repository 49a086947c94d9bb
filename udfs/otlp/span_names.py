"""Numbering of the span names of a message: byte ranges in, an index for each and its first appearance out."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from udfs.compiled import load8, njit

__all__ = ["hash_range", "number_names"]

# No normal producer sends names that fill 64 slots in a row. The limit keeps a message of names that were made to
# collide at 64 comparisons a span.
_PROBES_MAX: Final = 64

# 64-bit FNV-1a prime and start value, and a shift that mixes the high bits into the low ones.
_PRIME: Final = np.uint64(0x100000001B3)
_START: Final = np.uint64(0xCBF29CE484222325)
_FOLD: Final = np.uint64(29)


@njit
def hash_range(buf: Any, first: Any, stop: Any) -> Any:
    """Return a 64-bit hash of some bytes, eight at a time. It only selects the slot; the bytes decide equality."""
    value = _START ^ np.uint64(stop - first)
    pos = first
    while pos + 8 <= stop:
        value = (value ^ load8(buf, pos)) * _PRIME
        value ^= value >> _FOLD
        pos += 8
    while pos < stop:
        value = (value ^ np.uint64(buf[pos])) * _PRIME
        pos += 1
    return value ^ (value >> _FOLD)


@njit
def _same(buf: Any, first: Any, stop: Any, other: Any, other_stop: Any) -> Any:
    """Return whether two ranges contain the same bytes."""
    if stop - first != other_stop - other:
        return False
    pos = first
    while pos + 8 <= stop and load8(buf, pos) == load8(buf, other + pos - first):
        pos += 8
    while pos < stop and buf[pos] == buf[other + pos - first]:
        pos += 1
    return pos == stop


@njit
def _unique(buf: Any, name_range: Any, table: Any, name: Any, name_spans: Any) -> Any:
    """Number the names by first appearance. -> number of names.

    table: int32, a power of two >= 2 n long, filled with -1: open addressing, each slot an index into `name_spans`.
    """
    mask = np.uint64(table.shape[0] - 1)
    count = 0
    for i in range(name_range.shape[0]):
        first = name_range[i, 0]
        stop = name_range[i, 1]
        slot = hash_range(buf, first, stop) & mask
        found = -1
        for _ in range(_PROBES_MAX):
            seen = table[slot]
            if seen < 0:
                table[slot] = count
                break
            j = name_spans[seen]
            if _same(buf, first, stop, name_range[j, 0], name_range[j, 1]):
                found = seen
                break
            slot = (slot + np.uint64(1)) & mask
        if found < 0:
            found = count
            name_spans[count] = i
            count += 1
        name[i] = found
    return count


def number_names(buf: NDArray[np.uint8], name_range: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Give equal names one number, counted from 0 by first appearance. -> numbers (n,), spans of first appearance.

    name_range: (n, 2), first byte and end of each name, inside buf. Different names never share a number, whatever
    their hashes are; a name whose slot is crowded may get several numbers. O(bytes of all names).
    """
    n = name_range.shape[0]
    numbers, first_spans = np.empty(n, np.int32), np.empty(n, np.int32)
    table = np.full(1 << (2 * n).bit_length(), -1, np.int32)
    count = _unique(buf, name_range, table, numbers, first_spans)
    return numbers, first_spans[:count].copy()
