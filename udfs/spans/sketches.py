"""Sketches of many series as arrays: counted, merged and read here, packed in messages and states."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.spans import PackedSketches, Series
from udfs.stats.duration_histogram import BIN_BITS, count_from, quantile_ns

BIN_MASK: Final = (1 << BIN_BITS) - 1
_Ints = NDArray[np.int64]


class Sketch(NamedTuple):
    """The spans of one series. bins: ascending, with their counts; spans = counts.sum()."""

    spans: int
    errors: int
    bins: _Ints
    counts: _Ints

    def quantile_ns(self, q: float) -> float:
        return quantile_ns(self.bins, self.counts, q)

    def count_from(self, first_bin: int) -> int:
        return count_from(self.bins, self.counts, first_bin)


NO_SPANS: Final = Sketch(0, 0, np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Sketches:
    """A sketch and an error count for each of n series. Nothing changes the arrays."""

    # Distinct and ascending; in `pack_groups` within each group.
    keys: Sequence[Series]
    # int64 (n,): spans with status ERROR.
    errors: _Ints
    # int64 (m,), ascending: row << BIN_BITS | bin.
    codes: _Ints
    # int64 (m,): the spans of each code, > 0.
    counts: _Ints

    @classmethod
    def unpack(cls, packed: PackedSketches) -> "Sketches":
        """Decode packed sketches. O(rows + bins)."""
        bins = np.frombuffer(packed.bins, "<u2").astype(np.int64)
        row = np.repeat(np.arange(len(packed.keys)), np.frombuffer(packed.sizes, "<u2"))
        errors = _unpack_counts(packed.errors, len(packed.keys))
        return cls(packed.keys, errors, (row << BIN_BITS) | bins, _unpack_counts(packed.counts, len(bins)))

    def pack(self) -> PackedSketches:
        (packed,) = self.pack_groups((0, len(self.keys)))
        return packed

    def pack_groups(self, first_row: Sequence[int]) -> Iterator[PackedSketches]:
        """Yield rows first_row[g] to first_row[g + 1] of each group g, packed."""
        sizes, bins = np.bincount(self.row, minlength=len(self.keys)).astype("<u2"), self.bins.astype("<u2")
        first_cell = np.searchsorted(self.row, first_row).tolist()
        for (row, next_row), (cell, next_cell) in zip(pairwise(first_row), pairwise(first_cell), strict=True):
            yield PackedSketches(
                keys=tuple(self.keys[row:next_row]),
                errors=_pack_counts(self.errors[row:next_row]),
                sizes=sizes[row:next_row].tobytes(),
                bins=bins[cell:next_cell].tobytes(),
                counts=_pack_counts(self.counts[cell:next_cell]),
            )

    @property
    def row(self) -> _Ints:
        """Row of each code."""
        return self.codes >> BIN_BITS

    @property
    def bins(self) -> _Ints:
        """Bin of each code."""
        return self.codes & BIN_MASK

    def spans(self) -> _Ints:
        """Count the spans of each row."""
        return np.bincount(self.row, weights=self.counts, minlength=len(self.keys)).astype(np.int64)

    def spans_from(self, first_bin: _Ints) -> _Ints:
        """Count the spans of each row from the row's own bin on."""
        row = self.row
        beyond = self.counts * (self.bins >= first_bin[row])
        return np.bincount(row, weights=beyond, minlength=len(self.keys)).astype(np.int64)

    def only(self, wanted: Container[Series]) -> "Sketches":
        """Return the rows of the series that are wanted."""
        is_wanted = [key in wanted for key in self.keys]
        if all(is_wanted):
            return self
        kept = np.array(is_wanted)
        of_kept = kept[self.row]
        codes = self.codes_in(np.cumsum(kept) - 1)[of_kept]
        return Sketches(tuple(compress(self.keys, kept)), self.errors[kept], codes, self.counts[of_kept])

    def codes_in(self, row_of: _Ints) -> _Ints:
        """Return the codes with row_of[row] in place of each row."""
        return (row_of[self.row] << BIN_BITS) | self.bins

    def items(self) -> Iterator[tuple[Series, Sketch]]:
        """Yield each series with its sketch, ascending. O(rows + bins)."""
        bins, ends = self.bins, np.searchsorted(self.row, np.arange(len(self.keys)), side="right").tolist()
        for key, errors, (start, end) in zip(self.keys, self.errors.tolist(), pairwise((0, *ends)), strict=True):
            counts = self.counts[start:end]
            yield key, Sketch(int(counts.sum()), errors, bins[start:end], counts)

    def sketch(self, series: Series) -> Sketch:
        """Return the sketch of a series, without spans where there is none."""
        if series not in self.keys:
            return NO_SPANS
        row = self.keys.index(series)
        start, end = np.searchsorted(self.codes, (row << BIN_BITS, (row + 1) << BIN_BITS)).tolist()
        counts = self.counts[start:end]
        return Sketch(int(counts.sum()), int(self.errors[row]), self.codes[start:end] & BIN_MASK, counts)


def merge_sketches(parts: Sequence[Sketches], renamed: Mapping[Series, Series]) -> Sketches:
    """Return the sums over all parts; the series in `renamed` count under another one. O(rows + bins log bins)."""
    keys_of_parts = [[renamed.get(key, key) for key in part.keys] if renamed else part.keys for part in parts]
    keys = sorted(set().union(*keys_of_parts))
    index = {key: row for row, key in enumerate(keys)}
    errors, codes = np.zeros(len(keys), np.int64), []
    for part, part_keys in zip(parts, keys_of_parts, strict=True):
        row_of = np.array([index[key] for key in part_keys], np.int64)
        np.add.at(errors, row_of, part.errors)
        codes.append(part.codes_in(row_of))
    sums = sum_by_code(np.concatenate(codes), np.concatenate([part.counts for part in parts]))
    return Sketches(keys, errors, *sums)


def sum_by_code(codes: _Ints, counts: _Ints) -> tuple[_Ints, _Ints]:
    """Return the distinct codes, ascending, with the sum of their counts."""
    if not len(codes):
        return codes, counts
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
    return codes[starts], np.add.reduceat(counts, starts)


def _pack_counts(values: _Ints) -> bytes:
    """Encode counts in the smallest width that holds all of them."""
    largest = int(values.max(initial=0))
    width = "<u1" if largest < 1 << 8 else "<u2" if largest < 1 << 16 else "<u4" if largest < 1 << 32 else "<u8"
    return values.astype(width).tobytes()


def _unpack_counts(data: bytes, length: int) -> _Ints:
    """Decode counts; their width follows from their number."""
    if not length:
        return np.empty(0, np.int64)
    return np.frombuffer(data, f"<u{len(data) // length}").astype(np.int64)
