"""Masks: what varies from line to line, or is nobody's business, is replaced by its kind before anything else sees it.

A masked line, a *shape*, is bytes in which each of the bytes 1..8 stands for a mask (`udfs.logs.masking.kernel`), and
USER for the name of a user; equal lines but for numbers, ids and secrets have equal shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, get_args

import numpy as np

from udfs.logs.masking.byte_classes import kinds_of
from udfs.logs.masking.kernel import MASK_LAST, PAD, mask_lines

__all__ = ["DEFAULTS", "MASK_BYTES", "MASK_NAMES", "USER", "MaskName", "MaskSettings", "Masker"]

# In the order of MASK_BYTES. They are what a person sees in templates: `<number>`.
MaskName = Literal["number", "hex", "id", "uuid", "ip", "email", "quoted", "secret", "user"]
MASK_NAMES: Final[tuple[MaskName, ...]] = get_args(MaskName)
USER: Final = b"\x0e"  # put in by `udfs.logs.masking.user_names`: what a name is depends on the words around it
MASK_BYTES: Final = (*range(1, MASK_LAST + 1), USER[0])
assert len(MASK_NAMES) == len(MASK_BYTES), "each mask has a byte and a name"


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """masks: which are applied. line_bytes_max: of a line, its beginning is read; templates do not need more."""

    masks: tuple[MaskName, ...] = MASK_NAMES
    line_bytes_max: int = 2_048


DEFAULTS: Final = MaskSettings()
_PAD: Final = b" " * PAD


class Masker:
    """Masks lines. One belongs to one thread."""

    def __init__(self, settings: MaskSettings = DEFAULTS) -> None:
        self._bytes_max = settings.line_bytes_max
        self._enabled = np.array([False, *(name in settings.masks for name in MASK_NAMES[:MASK_LAST])])
        self.masked_lines(["loads the compiled kernel"])

    def masked_lines(self, lines: Sequence[str]) -> list[bytes]:
        """The shape of each line. About 2 ns a byte, and 0.4 us a line."""
        cut = _encoded(lines, self._bytes_max)
        stops = np.cumsum(list(map(len, cut)), dtype=np.int64) + np.arange(len(cut))
        text = np.frombuffer(b"\n".join((*cut, _PAD)), np.uint8)
        kinds, out, out_stops = np.empty(len(text), np.uint8), np.empty(len(text), np.uint8), np.empty_like(stops)
        kinds_of(text, kinds, out)
        data = out[: mask_lines(text, kinds, stops, self._enabled, out, out_stops)].tobytes()
        return [data[first:stop] for first, stop in pairwise((0, *out_stops.tolist()))]


def _encoded(lines: Sequence[str], bytes_max: int) -> list[bytes]:
    """The beginning of each line. Cut before it is encoded: a long line is not copied as a whole."""
    try:
        found = [line.encode() if len(line) <= bytes_max else line[:bytes_max].encode() for line in lines]
    except UnicodeEncodeError:  # a lone surrogate
        found = [line[:bytes_max].encode(errors="replace") for line in lines]
    return found if max(map(len, found), default=0) <= bytes_max else [line[:bytes_max] for line in found]
