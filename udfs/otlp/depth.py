"""Tell why upb refused a message: bytes and their message type go in, whether they nest too deep comes out."""

from typing import Final

from google.protobuf.descriptor import Descriptor  # type: ignore[import-untyped]  # protobuf 5 has no py.typed

__all__ = ["nests_too_deep"]

# upb's limit on messages inside messages.
_LEVELS_MAX: Final = 100
# The answer only chooses between two reasons of a dead letter, so the work on it is bounded: about 0.1 s.
_FIELDS_MAX: Final = 100_000
_VARINT_BYTES_MAX: Final = 10
_FIXED_BYTES: Final = {1: 8, 5: 4}


def nests_too_deep(data: bytes, root: Descriptor) -> bool:
    """Whether messages in `data` nest deeper than upb reads, before any other fault. Needs no recursion.

    False also where the first 100,000 fields do not show it, and for groups, which OTLP does not have.
    """
    levels = [(len(data), root)]
    pos = 0
    for _ in range(_FIELDS_MAX):
        while pos == levels[-1][0]:
            levels.pop()
            if not levels:
                return False
        end, message = levels[-1]
        tag, pos = _varint(data, pos, end)
        wire_type = tag & 7
        if wire_type == 2:
            size, pos = _varint(data, pos, end)
            field = message.fields_by_number.get(tag >> 3)
            if pos + size > end:
                return False
            if field is not None and field.message_type is not None:
                levels.append((pos + size, field.message_type))
                size = 0
            pos += size
        elif wire_type == 0:
            _, pos = _varint(data, pos, end)
        else:
            pos += _FIXED_BYTES.get(wire_type, end)
        if len(levels) > _LEVELS_MAX:
            return True
        if pos > levels[-1][0]:
            return False
    return False


def _varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Read a varint. -> value, next position, which is beyond `end` where it is cut off or too long."""
    value = 0
    for i in range(min(_VARINT_BYTES_MAX, end - pos)):
        value |= (data[pos + i] & 0x7F) << (7 * i)
        if data[pos + i] < 0x80:
            return value, pos + i + 1
    return value, end + 1
