"""Masker of log lines: parts that vary from line to line or are sensitive are replaced by their kind before other use.

A masked line is bytes in which each of the bytes 1..8 is a mask (`udfs.logs.masking.kernel`), and USER is the name of a
user. Lines that differ only in numbers, ids and secrets have equal masked lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, get_args

import numpy as np

from udfs.logs.masking.byte_classes import kinds_of
from udfs.logs.masking.kernel import MASK_LAST, PAD, mask_lines

__all__ = ["DEFAULTS", "MASK_BYTES", "MASK_NAMES", "USER", "MaskName", "MaskSettings", "Masker"]

# In the order of MASK_BYTES. Templates show these names to people: `<number>`.
MaskName = Literal["number", "hex", "id", "uuid", "ip", "email", "quoted", "secret", "user"]
MASK_NAMES: Final[tuple[MaskName, ...]] = get_args(MaskName)
USER: Final = b"\x0e"  # written by `udfs.logs.masking.user_names`: the words around a name identify it
MASK_BYTES: Final = (*range(1, MASK_LAST + 1), USER[0])
assert len(MASK_NAMES) == len(MASK_BYTES), f"{len(MASK_NAMES)} mask names, {len(MASK_BYTES)} mask bytes: give both"


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """Settings of the masker."""

    # The masks that are applied.
    masks: tuple[MaskName, ...] = MASK_NAMES
    # Bytes of a line that are read, from its beginning; templates do not need more.
    line_bytes_max: int = 2_048


DEFAULTS: Final = MaskSettings()
_PAD: Final = b" " * PAD


class Masker:
    """Masker of lines. Each thread needs its own."""

    def __init__(self, settings: MaskSettings = DEFAULTS) -> None:
        self._bytes_max = settings.line_bytes_max
        self._enabled = np.array([False, *(name in settings.masks for name in MASK_NAMES[:MASK_LAST])])
        self.masked_lines(["loads the compiled kernel"])

    def is_cut(self, line: str) -> bool:
        """Return whether a line is longer than line_bytes_max: only its beginning is masked."""
        chars = len(line)
        if 4 * chars <= self._bytes_max:  # UTF-8 has at most 4 bytes a character
            return False
        return chars > self._bytes_max or len(line.encode(errors="replace")) > self._bytes_max

    def masked_lines(self, lines: Sequence[str]) -> list[bytes]:
        """Return the masked line of each line. About 2 ns a byte, and 0.4 us a line."""
        cut = _encoded(lines, self._bytes_max)
        stops = np.cumsum(list(map(len, cut)), dtype=np.int64) + np.arange(len(cut))
        text = np.frombuffer(b"\n".join((*cut, _PAD)), np.uint8)
        kinds, out, out_stops = np.empty(len(text), np.uint8), np.empty(len(text), np.uint8), np.empty_like(stops)
        kinds_of(text, kinds, out)
        data = out[: mask_lines(text, kinds, stops, self._enabled, out, out_stops)].tobytes()
        return [data[first:stop] for first, stop in pairwise((0, *out_stops.tolist()))]


def _encoded(lines: Sequence[str], bytes_max: int) -> list[bytes]:
    """Return the beginning of each line, encoded. A long line is cut first, so that it is not copied as a whole."""
    try:
        encoded = [line.encode() if len(line) <= bytes_max else line[:bytes_max].encode() for line in lines]
    except UnicodeEncodeError:  # a lone surrogate
        encoded = [line[:bytes_max].encode(errors="replace") for line in lines]
    return encoded if max(map(len, encoded), default=0) <= bytes_max else [line[:bytes_max] for line in encoded]
