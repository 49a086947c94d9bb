"""The wire format of protobuf: bytes in, the fields of a message and their ranges out.

https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["BYTES", "FIXED64", "Field", "fields_of", "varint_bytes"]

_VARINT, FIXED64, BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES: Final = {FIXED64: 8, _FIXED32: 4}


class _Varint(NamedTuple):
    """A number. stop: position of the byte after it."""

    value: int
    stop: int


class Field(NamedTuple):
    """A field of a message. first, stop: range of its bytes, without their length."""

    number: int
    wire_type: int
    first: int
    stop: int
    # Whether all its bytes are there.
    whole: bool = True


def fields_of(data: bytes | memoryview, first: int, stop: int) -> Iterator[Field]:
    """Yield the fields in these bytes up to the first invalid one; a field that is cut off ends where the bytes end."""
    while first < stop:
        tag, first = _varint(data, first, stop)
        wire_type = tag & 7
        if wire_type == _VARINT:
            end = _varint(data, first, stop).stop
        elif wire_type == BYTES:
            size, first = _varint(data, first, stop)
            end = first + size
        elif wire_type in _SIZES:
            end = first + _SIZES[wire_type]
        else:
            return
        yield Field(tag >> 3, wire_type, first, min(end, stop), end <= stop)
        first = end


def _varint(data: bytes | memoryview, first: int, stop: int) -> _Varint:
    """Return a number, also if it is cut off."""
    value, shift = 0, 0
    while first < stop:
        byte = data[first]
        first += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            break
    return _Varint(value, first)


def varint_bytes(value: int) -> bytes:
    """Return a number that is not negative, encoded."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
