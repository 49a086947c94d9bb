"""Attributes of a few spans of a message: those of some names, found in its bytes when they are asked for."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.telemetry.spans import EncodedSpans
from udfs.otlp.protobuf import ProtobufReader
from udfs.otlp.span_names import number_names
from udfs.otlp.span_scanner_kernels import find_attributes
from udfs.otlp.wire_kernels import GROUP_DEPTH_MAX

__all__ = ["AttributeReader", "SpanAttributes"]

# Values that are remembered, and bytes of the longest of them: 10 MB at most.
_REMEMBERED_MAX: Final = 20_000
_REMEMBERED_BYTES_MAX: Final = 256


class SpanAttributes(NamedTuple):
    """An attribute of each of some spans.

    - texts: the distinct values; "" for one that is empty or cannot be read. names: the name of each.
    - numbers: of each span, the index of its text, or -1 - name where it has no such attribute.
    """

    texts: tuple[str, ...]
    names: NDArray[np.intp]
    numbers: NDArray[np.int32]


class AttributeReader:
    """A reader of the attributes of these names. It remembers values: use one for each thread."""

    def __init__(self, names: Iterable[str], depth_max: int) -> None:
        self.names = tuple(names)
        keys = [name.encode() for name in self.names]
        self._keys = np.frombuffer(b"".join(keys), np.uint8)
        self._key_stops = np.cumsum([len(key) for key in keys], dtype=np.int64)
        self._reader = ProtobufReader(depth_max)
        self._known: dict[bytes, str] = {}

    def read(self, encoded: EncodedSpans, rows: NDArray[np.intp], names: NDArray[np.intp]) -> SpanAttributes:
        """Return an attribute of each of these spans; of several with one name the last. names: indices into names.

        Texts are those of the attributes of log records. A value that cannot be read, as it is broken or nests deeper
        than depth_max, is empty; what is not UTF-8 in it is U+FFFD. About 0.2 us an attribute, 1 us a distinct value.
        """
        found = np.zeros((len(rows), 2), np.int64)
        buf = np.frombuffer(encoded.data, np.uint8)
        groups = np.empty(GROUP_DEPTH_MAX, np.int64)
        if encoded.data:
            find_attributes(buf, encoded.ranges, rows, names, self._keys, self._key_stops, found, groups)
        numbers, first = number_names(buf, found)
        absent = found[:, 1] == 0
        numbers[absent] = -1 - names[absent]
        texts = tuple(self._text(encoded.data[start:stop]) for start, stop in found[first].tolist())
        return SpanAttributes(texts, names[first], numbers)

    def _text(self, pair: bytes) -> str:
        text = self._known.get(pair)
        if text is None:
            text = self._reader.attribute(pair)
            if len(pair) <= _REMEMBERED_BYTES_MAX:
                if len(self._known) >= _REMEMBERED_MAX:
                    self._known.clear()
                self._known[pair] = text
        return text
