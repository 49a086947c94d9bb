"""Lists of names that become one: records refer to names by index, and their indices change with the list."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]
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
