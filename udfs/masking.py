"""Masks: what varies from line to line, or is nobody's business, is replaced by its kind before anything else sees it.

A masked line, a *shape*, is bytes in which each of the bytes 1..8 stands for a mask (`udfs.mask_kernel`); equal lines
but for numbers, ids and secrets have equal shapes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from udfs.mask_kernel import MASK_LAST, mask_lines

__all__ = ["DEFAULTS", "MASK_NAMES", "MaskName", "MaskSettings", "Masker"]

# In the order of their bytes, from 1 on. They are what a person sees in templates: `<number>`.
MaskName = Literal["number", "hex", "id", "uuid", "ip", "email", "quoted", "secret"]
MASK_NAMES: Final[tuple[MaskName, ...]] = get_args(MaskName)
assert len(MASK_NAMES) == MASK_LAST, "each mask of the kernel has a name"


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """masks: which are applied. line_bytes_max: of a line, its beginning is read; templates do not need more."""

    masks: tuple[MaskName, ...] = MASK_NAMES
    line_bytes_max: int = 2_048


DEFAULTS: Final = MaskSettings()


class Masker:
    """Masks lines. One belongs to one thread."""

    def __init__(self, settings: MaskSettings = DEFAULTS) -> None:
        self._bytes_max = settings.line_bytes_max
        self._enabled = np.array([False, *(name in settings.masks for name in MASK_NAMES)])
        self.shapes(["loads the compiled kernel"])

    def shapes(self, lines: Sequence[str]) -> list[bytes]:
        """The shape of each line. About 10 ns a byte."""
        cut = [line.encode(errors="replace")[: self._bytes_max] for line in lines]
        stops = np.cumsum([len(line) for line in cut], dtype=np.int64)
        text = np.frombuffer(b"".join(cut), np.uint8)
        out, out_stops = np.empty(len(text), np.uint8), np.empty(len(cut), np.int64)
        mask_lines(text, stops, self._enabled, out, out_stops)
        return list(_parts(out, out_stops))


def _parts(out: NDArray[np.uint8], stops: NDArray[np.int64]) -> Iterable[bytes]:
    data, first = out.tobytes(), 0
    for stop in stops.tolist():
        yield data[first:stop]
        first = stop
