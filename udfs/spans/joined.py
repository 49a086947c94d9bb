"""Records of several messages as one array: they refer to names by index, so the lists of names are joined as well."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]
_Records = NDArray[np.void]
T = TypeVar("T", str, tuple[str, str], tuple[str, str, str, str])


class JoinedNames(NamedTuple, Generic[T]):
    """The distinct names of several lists, ascending."""

    names: list[T]
    # Index into names of each element of each list, list after list.
    indices: _Ints
    # Index into indices of the first element of each list.
    first: _Ints

    @classmethod
    def of(cls, lists: Sequence[Sequence[T]]) -> "JoinedNames[T]":
        names = sorted({name for part in lists for name in part})
        index_of = {name: index for index, name in enumerate(names)}
        indices = np.array([index_of[name] for part in lists for name in part], np.int64)
        return cls(names, indices, np.cumsum([0, *(len(part) for part in lists[:-1])]))

    def at(self, part: _Ints, index: _Ints) -> _Ints:
        """Return the index into names of each element. part: number of its list. index: its index in the list."""
        joined: _Ints = self.indices[self.first[part] + index]
        return joined


def joined_records(parts: Sequence[bytes], dtype: np.dtype[np.void]) -> tuple[_Records, _Ints]:
    """Return the records of all parts, and for each record the number of its part."""
    records: _Records = np.frombuffer(bytearray().join(parts), dtype)
    return records, np.repeat(np.arange(len(parts)), [len(part) // dtype.itemsize for part in parts])


def trace_ids(records: _Records) -> list[str]:
    """Return the trace id of each record, which has it as the words `high` and `low`, in hex digits."""
    text = records[["high", "low"]].astype([("high", ">u8"), ("low", ">u8")]).tobytes().hex()
    return [text[first : first + 32] for first in range(0, len(text), 32)]
