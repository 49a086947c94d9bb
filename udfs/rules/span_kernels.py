"""Kernels of the conditions on spans: the columns of a message in, the spans that fulfil a condition out."""

from typing import Any, Final

import numpy as np

from udfs.compiled import first_set, njit

__all__ = [
    "ID_BYTES",
    "asked_attributes",
    "asked_names",
    "fulfilled",
    "narrow_attributes",
    "narrow_names",
    "picked",
    "rows_of",
]

ID_BYTES: Final = 24  # of a trace id and a span id

_NS_PER_MS: Final = 1_000_000
_U0: Final = np.uint64(0)
_U1: Final = np.uint64(1)


@njit
def fulfilled(
    resource: Any,
    kind: Any,
    error: Any,
    start_ns: Any,
    end_ns: Any,
    ok: Any,
    since_ns: Any,
    resource_words: Any,
    status_words: Any,
    timed: Any,
    least_ms: Any,
    greatest_ms: Any,
    words: Any,
) -> Any:
    """Write for each span a word whose bits are the conditions that resource, kind, status and duration fulfil.

    -> the bits of all words.

    - resource .. ok, words: (n,), columns of the spans; only those of `ok` that end at since_ns or later fulfil one.
    - resource_words, status_words: uint64, the conditions that hold for each resource, and for 2 * kind + error.
    - timed: the conditions that test the duration. least_ms, greatest_ms: (64,), its bounds in each of them, inclusive.
    """
    every = _U0
    for i in range(words.shape[0]):
        word = _U0
        if ok[i] and end_ns[i] >= since_ns:
            word = resource_words[resource[i]] & status_words[2 * np.int64(kind[i]) + np.int64(error[i])]
        left = word & timed
        if left != _U0:
            duration_ms = np.float64(end_ns[i] - start_ns[i]) / _NS_PER_MS
        while left != _U0:
            bit = first_set(left)
            left &= left - _U1
            if not least_ms[bit] <= duration_ms <= greatest_ms[bit]:
                word &= ~(_U1 << np.uint64(bit))
        words[i] = word
        every |= word
    return every


@njit
def asked_names(words: Any, named: Any, name: Any, places: Any, listed: Any) -> Any:
    """Number the names of the spans whose word has one of the bits of `named`. -> how many there are.

    name: (n,), column of the spans. places: int64, by name, -1 where it has no number. listed: int64, as long.
    """
    count = 0
    places[:] = -1
    for row in range(words.shape[0]):
        if words[row] & named != _U0 and places[name[row]] < 0:
            places[name[row]] = count
            listed[count] = name[row]
            count += 1
    return count


@njit
def narrow_names(words: Any, named: Any, name: Any, places: Any, decided: Any) -> None:
    """Leave of each of these words what is decided at the place of the name of its span."""
    for row in range(words.shape[0]):
        if words[row] & named != _U0:
            words[row] &= decided[places[name[row]]]


@njit
def asked_attributes(words: Any, attributed: Any, rows: Any, names: Any) -> Any:
    """Write down each word with each attribute that its conditions test. -> their number.

    attributed: uint64 (m,), the conditions that test each attribute. rows, names: int64 (n m,), ascending by row.
    """
    count = 0
    for row in range(words.shape[0]):
        if words[row] != _U0:
            for name in range(attributed.shape[0]):
                if words[row] & attributed[name] != _U0:
                    rows[count] = row
                    names[count] = name
                    count += 1
    return count


@njit
def narrow_attributes(words: Any, rows: Any, places: Any, decided: Any) -> None:
    """Leave of each words[rows[i]] what is in decided[places[i]]; a row may come several times."""
    for i in range(rows.shape[0]):
        words[rows[i]] &= decided[places[i]]


@njit
def rows_of(words: Any, rows: Any) -> Any:
    """List the words that are not 0. rows: int64 (n,). -> how many there are."""
    count = 0
    for row in range(words.shape[0]):
        if words[row] != _U0:
            rows[count] = row
            count += 1
    return count


@njit
def picked(
    rows: Any,
    resource: Any,
    name: Any,
    kind: Any,
    error: Any,
    start_ns: Any,
    end_ns: Any,
    trace_id: Any,
    span_id: Any,
    values: Any,
    ids: Any,
) -> None:
    """Write some spans out. resource .. span_id: columns of all.

    - values: int64 (rows, 7), row, resource, name, kind, error, duration and end in ns.
    - ids: uint8 (rows, ID_BYTES), trace id and span id.
    """
    for i in range(rows.shape[0]):
        row = rows[i]
        values[i, 0] = row
        values[i, 1] = resource[row]
        values[i, 2] = name[row]
        values[i, 3] = kind[row]
        values[i, 4] = error[row]
        values[i, 5] = end_ns[row] - start_ns[row]
        values[i, 6] = end_ns[row]
        for k in range(16):
            ids[i, k] = trace_id[row, k]
        for k in range(8):
            ids[i, 16 + k] = span_id[row, k]
