"""Kernels over the spans of one message or of many: duplicates, groups, exemplars, rows.

Contract of all kernels: arrays have the lengths that the docstring names, n is the number of spans; the caller owns the
scratch memory. A hash table is `slots` (int32, its length a power of two, filled with -1): indices of entries of
another array. At most every second slot is in use. It only gives the place of an entry and has no effect on results.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.spans import EXEMPLAR_DTYPE
from udfs.compiled import njit

__all__ = [
    "SAMPLED_MAX",
    "SLOWEST_MAX",
    "exemplars_of",
    "hash_table",
    "numbered",
    "repeated",
    "smallest_of",
]

SLOWEST_MAX: Final = 3
SAMPLED_MAX: Final = 5
# A run of so many other ids from one slot on does not occur by chance. The search stops there, so that a message with
# ids made to collide does not take quadratic time.
PROBES_MAX: Final = 64
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio (Knuth, TAOCP 3, 6.4)
_HIGH: Final = np.uint64(32)
_TO_HIGH: Final = np.uint64(31)


def hash_table(entries: int) -> NDArray[np.int32]:
    """Return an empty hash table for this number of entries."""
    return np.full(1 << max(4, (2 * entries - 1).bit_length()), -1, np.int32)


@njit
def _place(key: Any, size: Any) -> Any:
    """Return the first slot for a 64-bit key."""
    mixed = np.uint64(key) * _MIX
    return np.int64((mixed >> _HIGH) & np.uint64(size - 1))


@njit
def _repeated(words: Any, counts: Any, slots: Any, again: Any) -> Any:
    """Mark duplicates in again; return 0, or 1 where it stopped at PROBES_MAX.

    words: uint64 (n, 3). counts: bool (n,). again: bool (n,), zeroed.
    """
    size = slots.shape[0]
    for i in range(words.shape[0]):
        if not counts[i] or words[i, 2] == 0:
            continue
        at = _place(words[i, 2] ^ (words[i, 0] >> _TO_HIGH) ^ words[i, 1], size)
        probes = 0
        while slots[at] >= 0:
            j = slots[at]
            if words[j, 0] == words[i, 0] and words[j, 1] == words[i, 1] and words[j, 2] == words[i, 2]:
                again[i] = True
                break
            at = (at + 1) & (size - 1)
            probes += 1
            if probes > PROBES_MAX:
                return 1
        if not again[i]:
            slots[at] = i
    return 0


def repeated(words: NDArray[np.uint64], counts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return True for the second and later spans that count and have equal ids; without a span id none are equal.

    words: (n, 3), trace id and span id. O(n), or O(n log n) for ids made to collide.
    """
    again = np.zeros(len(words), np.bool_)
    if _repeated(words, counts, hash_table(len(words)), again):
        chosen = np.flatnonzero(counts)
        order = chosen[np.lexsort((words[chosen, 0], words[chosen, 1], words[chosen, 2]))]
        again[:] = False
        ordered = words[order]
        again[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)  # lexsort is stable: the first of equals stays
        again &= words[:, 2] != 0
    return again


@njit
def _intern(key: Any, keys: Any, slots: Any, count: Any) -> Any:
    """Return the number of a key; a key without one gets the number `count`: keys[count] = key."""
    size = slots.shape[0]
    at = _place(key, size)
    while slots[at] >= 0:
        if keys[slots[at]] == key:
            return slots[at]
        at = (at + 1) & (size - 1)
    slots[at] = count
    keys[count] = key
    return np.int32(count)


@njit
def _number(codes: Any, keys: Any, slots: Any, group: Any) -> Any:
    """Number the distinct codes by first appearance; return their count. codes, keys: int64 (n,). group: int32 (n,)."""
    count = 0
    last = np.int64(-1)
    number = np.int32(0)
    for i in range(codes.shape[0]):
        if codes[i] != last:
            last = codes[i]
            number = _intern(last, keys, slots, count)
            count = max(count, number + 1)
        group[i] = number
    return count


def numbered(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the distinct codes by first appearance, and the number of each code. O(n)."""
    keys, group = np.empty(len(codes), np.int64), np.empty(len(codes), np.int32)
    return keys[: _number(codes, keys, hash_table(len(codes)), group)], group


@njit
def _smallest(ranks: Any, groups: Any, most: Any, kept: Any, counts: Any) -> None:
    """Write the indices of the smallest ranks of group g to kept[g * most:], ascending.

    ranks: uint64 (n,). counts: zeroed.
    """
    for i in range(ranks.shape[0]):
        g = groups[i]
        first, count = g * most, counts[g]
        at = count
        while at > 0 and ranks[i] < ranks[kept[first + at - 1]]:
            at -= 1
        if at == most:
            continue
        count = min(count + 1, most)
        for j in range(count - 1, at, -1):
            kept[first + j] = kept[first + j - 1]
        kept[first + at] = i
        counts[g] = count


def smallest_of(ranks: NDArray[np.uint64], group: NDArray[np.int64], groups: int, most: int) -> NDArray[np.int64]:
    """Return the indices of the `most` smallest ranks of each group, ascending.

    Of equal ranks the first stay. O(n most).
    """
    kept, counts = np.empty(groups * most, np.int64), np.zeros(groups, np.int64)
    _smallest(ranks, group, most, kept, counts)
    indices: NDArray[np.int64] = kept.reshape(groups, most)[np.arange(most) < counts[:, None]]
    return np.sort(indices)


@njit
def _order(one: Any) -> Any:
    """Return the sort key of an exemplar: longest first, then by trace id, host, operation."""
    return -one.duration_ns, one.high, one.low, one.host, one.operation


@njit
def _insert(found: Any, i: Any, kept: Any, first: Any, at: Any, count: Any, most: Any) -> Any:
    """Insert exemplar i at index `at` of kept[first:first + count]; keep at most `most`; return the new count."""
    if at == most:
        return count
    count = min(count + 1, most)
    for j in range(count - 1, at, -1):
        kept[first + j] = kept[first + j - 1]
    kept[first + at] = found[i]
    return count


@njit
def _offer_slowest(found: Any, i: Any, kept: Any, first: Any, count: Any) -> Any:
    """Insert exemplar i into kept[first:first + count], ordered, at most SLOWEST_MAX; return the new count."""
    at = count
    while at > 0:
        own, other = _order(found[i]), _order(kept[first + at - 1])
        if own == other:
            return count
        if own > other:
            break
        at -= 1
    return _insert(found, i, kept, first, at, count, SLOWEST_MAX)


@njit
def _size(one: Any) -> Any:
    """Return the sort key of an exemplar among those of its trace: of equal durations the greater names count more."""
    return one.duration_ns, one.host, one.operation


@njit
def _offer_sampled(found: Any, i: Any, kept: Any, first: Any, count: Any) -> Any:
    """Insert exemplar i into the longest spans of SAMPLED_MAX smallest trace ids, by trace id; return the new count."""
    at = count
    while at > 0:
        j = first + at - 1
        trace, other = (found[i].high, found[i].low), (kept[j].high, kept[j].low)
        if trace == other:
            if _size(found[i]) > _size(kept[j]):
                kept[j] = found[i]
            return count
        if trace > other:
            break
        at -= 1
    return _insert(found, i, kept, first, at, count, SAMPLED_MAX)


@njit
def _select(found: Any, roles: Any, slowest: Any, slowest_count: Any, sampled: Any, sampled_count: Any) -> None:
    for i in range(found.shape[0]):
        g = found[i].group
        if roles[i] & 1:
            slowest_count[g] = _offer_slowest(found, i, slowest, g * SLOWEST_MAX, slowest_count[g])
        if roles[i] & 2:
            sampled_count[g] = _offer_sampled(found, i, sampled, g * SAMPLED_MAX, sampled_count[g])


Exemplars = NDArray[np.void]  # of EXEMPLAR_DTYPE


def exemplars_of(found: Exemplars, roles: NDArray[np.uint8], groups: int) -> Exemplars:
    """Return the slowest of each group, then the sampled, then the failing exemplars, in the order of `SpanTable`.

    roles: for each of `found` the sum of the roles that it may have: 1 slowest, 2 sampled, 4 failing. Its host and
    operation are indices into ascending names. O(n).
    """
    slowest, sampled = np.empty(groups * SLOWEST_MAX, EXEMPLAR_DTYPE), np.empty(groups * SAMPLED_MAX, EXEMPLAR_DTYPE)
    counts = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    _select(found, roles & 3, slowest, counts[0], sampled, counts[1])
    slowest["role"], sampled["role"] = 0, 1
    kept = [
        part[(np.arange(groups)[:, None] * size + np.arange(size))[np.arange(size) < count[:, None]]]
        for part, size, count in ((slowest, SLOWEST_MAX, counts[0]), (sampled, SAMPLED_MAX, counts[1]))
    ]
    failing = found[roles & 4 != 0]
    if len(failing):
        kept.append(exemplars_of(failing, np.ones(len(failing), np.uint8), groups))
        kept[-1]["role"] = 2
    chosen: Exemplars = np.concatenate(kept)
    return chosen
