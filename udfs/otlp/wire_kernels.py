"""Reading of the wire format of protobuf, compiled: varints, tags, lengths, and skipping of fields.

Contract of all kernels: that of `udfs.otlp.span_scanner_kernels`.
"""

from typing import Any, Final

import numpy as np

from udfs.compiled import njit

__all__ = ["GROUP_DEPTH_MAX", "read_sized", "read_tag", "read_varint", "skip_value"]

# Largest depth of nested groups; the limit of upb.
GROUP_DEPTH_MAX: Final = 100

_SIZE_MAX: Final = np.uint64(2**31 - 1)
_TAG_MAX: Final = np.uint64(2**32 - 1)
_TAG_BYTES_MAX: Final = 5
_VARINT_BYTES_MAX: Final = 10
_U0: Final = np.uint64(0)
_U7: Final = np.uint64(7)
_U8: Final = np.uint64(8)
_LOW_7: Final = np.uint64(0x7F)


@njit
def read_varint(buf: Any, pos: Any, end: Any) -> Any:
    """Read a varint of at most 10 bytes; bits above the 64th are dropped, as upb does. -> value, next position."""
    if pos < end and buf[pos] < 0x80:  # short path for most tags, lengths and enums
        return np.uint64(buf[pos]), pos + 1
    value = _U0
    shift = _U0
    stop = min(end, pos + _VARINT_BYTES_MAX)
    at = pos
    while at < stop:
        byte = np.uint64(buf[at])
        value |= (byte & _LOW_7) << shift
        at += 1
        if byte <= _LOW_7:
            return value, at
        shift += _U7
    return value, ~at


@njit
def read_tag(buf: Any, pos: Any, end: Any) -> Any:
    """Read a field's tag: at most 5 bytes, 32 bits, field number not 0. -> tag, next position."""
    value, after = read_varint(buf, pos, end)
    if after < 0:
        return np.int64(0), after
    if after - pos > _TAG_BYTES_MAX or value > _TAG_MAX or value < _U8:
        return np.int64(0), ~pos
    return np.int64(value), after


@njit
def read_sized(buf: Any, pos: Any, end: Any) -> Any:
    """Read the length of a length-delimited field. -> first byte of its content, end of its content."""
    value, first = read_varint(buf, pos, end)
    if first < 0:
        return first, first
    if value > _SIZE_MAX or np.int64(value) > end - first:
        return ~pos, ~pos
    return first, first + np.int64(value)


@njit
def _skip_plain(buf: Any, pos: Any, end: Any, wire_type: Any) -> Any:
    """Skip the value of a field that is not a group. -> next position."""
    after = ~pos
    if wire_type == 0:
        _, after = read_varint(buf, pos, end)
    elif wire_type == 1:
        after = pos + 8
    elif wire_type == 2:
        _, after = read_sized(buf, pos, end)
    elif wire_type == 5:
        after = pos + 4
    return after if after <= end else ~pos


@njit
def _skip_group(buf: Any, pos: Any, end: Any, field: Any, groups: Any) -> Any:
    """Skip the content and the end tag of a group. -> next position.

    The group ends at the end tag with its own field number after all groups inside it are closed; any other end tag is
    a fault.
    """
    groups[0] = field
    depth = 1
    while depth > 0:
        tag, after = read_tag(buf, pos, end)
        if after < 0:
            return after
        wire_type = tag & 7
        if wire_type == 3:
            if depth == GROUP_DEPTH_MAX:
                return ~pos
            groups[depth] = tag >> 3
            depth += 1
        elif wire_type == 4:
            depth -= 1
            if groups[depth] != tag >> 3:
                return ~pos
        else:
            after = _skip_plain(buf, after, end, wire_type)
            if after < 0:
                return after
        pos = after
    return pos


@njit
def skip_value(buf: Any, pos: Any, end: Any, tag: Any, groups: Any) -> Any:
    """Skip the value of any field. groups: int64 (GROUP_DEPTH_MAX,), scratch. -> next position."""
    return _skip_group(buf, pos, end, tag >> 3, groups) if tag & 7 == 3 else _skip_plain(buf, pos, end, tag & 7)
