"""Kernels of the wire scanner: they parse the protobuf bytes of an OTLP trace request and read its spans.

Contract of all kernels: `buf` is uint8 (n,), n < 2**31. A position is int64, 0..n; a negative one is a fault at byte
`~position`. Each read is checked against the end of the innermost enclosing field, because numba checks no bounds.
"""

from typing import Any, Final

import numpy as np

from udfs.compiled import inlined, load8, njit
from udfs.otlp.wire_kernels import read_sized, read_tag, read_varint, skip_value

__all__ = ["EXCEPTIONS_MAX", "find_attributes", "find_spans", "read_spans"]

# Exceptions of one span that are read: enough for a chain of causes or a few retries. The thousands of exceptions that
# a loop may record add no information.
EXCEPTIONS_MAX: Final = 8

_LOW_32: Final = np.uint64(0xFFFFFFFF)

# Tags (field number << 3 | wire type) of opentelemetry/proto/trace/v1/trace.proto.
_RESOURCE_SPANS: Final = 1 << 3 | 2
_RESOURCE: Final = 1 << 3 | 2
_SCOPE_SPANS: Final = 2 << 3 | 2
_SPANS: Final = 2 << 3 | 2
_TRACE_ID: Final = 1 << 3 | 2
_SPAN_ID: Final = 2 << 3 | 2
_PARENT_SPAN_ID: Final = 4 << 3 | 2
_NAME: Final = 5 << 3 | 2
_KIND: Final = 6 << 3 | 0
_START_NS: Final = 7 << 3 | 1
_END_NS: Final = 8 << 3 | 1
_ATTRIBUTES: Final = 9 << 3 | 2
_KEY: Final = 1 << 3 | 2
_VALUE: Final = 2 << 3 | 2
_EVENTS: Final = 11 << 3 | 2
_STATUS: Final = 15 << 3 | 2
_STATUS_CODE: Final = 3 << 3 | 0
_STATUS_ERROR: Final = 2
_KIND_MAX: Final = 5
_EVENT_NAME: Final = 2 << 3 | 2
# The name `exception`: its first eight bytes as a number, its last one.
_EXCEPTIO: Final = np.uint64(int.from_bytes(b"exceptio", "little"))
_N: Final = np.uint8(ord("n"))


@njit
def _walk_scope(buf: Any, pos: Any, end: Any, count: Any, span_range: Any, groups: Any) -> Any:
    """Find the spans of one ScopeSpans. -> next position, spans found so far."""
    while pos < end:
        tag, after = read_tag(buf, pos, end)
        if after < 0:
            return after, count
        if tag == _SPANS:
            first, pos = read_sized(buf, after, end)
            if pos < 0:
                return pos, count
            if count < span_range.shape[0]:
                span_range[count, 0] = first
                span_range[count, 1] = pos
            count += 1
        else:
            pos = skip_value(buf, after, end, tag, groups)
            if pos < 0:
                return pos, count
    return pos, count


@njit
def _walk_resource(buf: Any, pos: Any, end: Any, counts: Any, resource_range: Any, span_range: Any, groups: Any) -> Any:
    """Find the spans and `resource` fields of one ResourceSpans, whose index is counts[0]. -> next position."""
    while pos < end:
        tag, after = read_tag(buf, pos, end)
        if after < 0:
            return after
        if tag == _RESOURCE:
            first, pos = read_sized(buf, after, end)
            if pos < 0:
                return pos
            if counts[1] < resource_range.shape[0]:
                resource_range[counts[1], 0] = counts[0]
                resource_range[counts[1], 1] = first
                resource_range[counts[1], 2] = pos
            counts[1] += 1
        elif tag == _SCOPE_SPANS:
            first, stop = read_sized(buf, after, end)
            if stop < 0:
                return stop
            pos, counts[2] = _walk_scope(buf, first, stop, counts[2], span_range, groups)
        else:
            pos = skip_value(buf, after, end, tag, groups)
        if pos < 0:
            return pos
    return pos


@njit
def find_spans(buf: Any, counts: Any, resource_range: Any, span_range: Any, resource: Any, groups: Any) -> Any:
    """Count the content of a message; write it down as far as the arrays reach. -> length of the message, or a fault.

    - counts: int64 (3,), zeroed by the caller: ResourceSpans, `resource` fields, spans.
    - span_range: int64 (n, 2), first byte and end of each span.
    - resource: int32 (n,), ResourceSpans index of each span.
    """
    pos = 0
    end = buf.shape[0]
    while pos < end:
        tag, after = read_tag(buf, pos, end)
        if after < 0:
            return after
        if tag == _RESOURCE_SPANS:
            first, stop = read_sized(buf, after, end)
            if stop < 0:
                return stop
            spans_before = counts[2]
            pos = _walk_resource(buf, first, stop, counts, resource_range, span_range, groups)
            for i in range(spans_before, min(counts[2], resource.shape[0])):
                resource[i] = counts[0]
            counts[0] += 1
        else:
            pos = skip_value(buf, after, end, tag, groups)
        if pos < 0:
            return pos
    return pos


@njit
def _status_code(buf: Any, pos: Any, end: Any, code: Any, groups: Any) -> Any:
    """Read one `status` field; a field without a code leaves `code` unchanged (merge). -> code, next position."""
    while pos < end:
        tag, after = read_tag(buf, pos, end)
        if after < 0:
            return code, after
        if tag == _STATUS_CODE:
            value, pos = read_varint(buf, after, end)
            code = np.int64(value & _LOW_32)  # an enum has 32 bits, as in upb
        else:
            pos = skip_value(buf, after, end, tag, groups)
        if pos < 0:
            return code, pos
    return code, pos


@njit
def _id(buf: Any, first: Any, stop: Any, ids: Any, row: Any, column: Any, size: Any) -> None:
    """Copy an id to its row, or write zeros if it has another length than `size`."""
    if stop - first == size:
        for i in range(size):
            ids[row, column + i] = buf[first + i]
    else:
        for i in range(size):
            ids[row, column + i] = 0


@njit
def _keep(buf: Any, first: Any, stop: Any, tag: Any, row: Any, ids: Any, name_range: Any) -> None:
    """Write an id or the name, if the field is one, to the row of the span."""
    if tag == _TRACE_ID:
        _id(buf, first, stop, ids, row, 0, 16)
    elif tag == _SPAN_ID:
        _id(buf, first, stop, ids, row, 16, 8)
    elif tag == _PARENT_SPAN_ID:
        _id(buf, first, stop, ids, row, 24, 8)
    elif tag == _NAME:
        name_range[row, 0] = first
        name_range[row, 1] = stop


@njit
def _event(buf: Any, pos: Any, end: Any, row: Any, exceptions: Any, groups: Any) -> Any:
    """Note an event if its last name is `exception`. -> end of the event, or a fault.

    exceptions: int64 (1 + k, 3). Row 0 has the number of noted exceptions and the number of further ones; the other
    rows have the span, first byte and end of each noted exception. The first EXCEPTIONS_MAX of each span are noted.
    """
    first = pos
    named = False
    while pos < end:
        tag, after = read_tag(buf, pos, end)
        if after < 0:
            return after
        if tag == _EVENT_NAME:
            name, pos = read_sized(buf, after, end)
            named = pos - name == 9 and load8(buf, name) == _EXCEPTIO and buf[name + 8] == _N
        else:
            pos = skip_value(buf, after, end, tag, groups)
        if pos < 0:
            return pos
    noted = exceptions[0, 0]
    if named and noted >= EXCEPTIONS_MAX and exceptions[noted - EXCEPTIONS_MAX + 1, 0] == row:
        exceptions[0, 1] += 1
    elif named:
        noted += 1
        exceptions[0, 0] = noted
        exceptions[noted, 0] = row
        exceptions[noted, 1] = first
        exceptions[noted, 2] = end
    return end


@njit
def _span(
    buf: Any, pos: Any, end: Any, row: Any, ids: Any, times: Any, name_range: Any, exceptions: Any, groups: Any
) -> Any:
    """Read one span; write its ids, times and name to its row. -> position, kind, status code."""
    kind = code = np.int64(0)
    while pos < end:
        tag, after = read_tag(buf, pos, end)
        if after < 0:
            return after, kind, code
        if tag & 7 == 2:
            first, pos = read_sized(buf, after, end)
            if pos < 0:
                return pos, kind, code
            if tag <= _NAME:
                _keep(buf, first, pos, tag, row, ids, name_range)
            elif tag >= _EVENTS:  # two comparisons for an attribute; most fields of a span are attributes
                if tag == _STATUS:
                    code, pos = _status_code(buf, first, pos, code, groups)
                elif tag == _EVENTS:
                    pos = _event(buf, first, pos, row, exceptions, groups)
        elif tag == _KIND:
            value, pos = read_varint(buf, after, end)
            kind = np.int64(value & _LOW_32)
        elif tag in (_START_NS, _END_NS) and after + 8 <= end:
            times[row, (tag - _START_NS) >> 3] = load8(buf, after)
            pos = after + 8
        else:
            pos = skip_value(buf, after, end, tag, groups)
        if pos < 0:
            return pos, kind, code
    return pos, kind, code


@njit
def read_spans(
    buf: Any, span_range: Any, times: Any, kind: Any, error: Any, ids: Any, names: Any, exceptions: Any, groups: Any
) -> Any:
    """Read all spans. -> 0 or a fault. All outputs but `kind`, `error` and `exceptions` are zeroed by the caller."""
    for i in range(span_range.shape[0]):
        first, end = span_range[i, 0], span_range[i, 1]
        pos, code, status = _span(buf, first, end, i, ids, times, names, exceptions, groups)
        if pos < 0:
            return pos
        kind[i] = code if code <= _KIND_MAX else 0
        error[i] = status == _STATUS_ERROR
    return 0


@inlined
def _key(buf: Any, pos: Any, end: Any, groups: Any) -> Any:
    """Find the last key of a KeyValue. -> its first byte and its end, 0 and 0 where there is none or it is broken."""
    # Short path for most: a key and a value of less than 128 bytes each, in this order, and nothing else.
    first = pos + 2
    if first < end and buf[pos] == _KEY and buf[pos + 1] < 0x80:
        stop = first + np.int64(buf[pos + 1])
        if stop + 1 < end and buf[stop] == _VALUE and buf[stop + 1] < 0x80 and end - stop - 2 == buf[stop + 1]:
            return first, stop
    return _last_key(buf, pos, end, groups)


@njit
def _last_key(buf: Any, pos: Any, end: Any, groups: Any) -> Any:
    """Find it as _key does, for a KeyValue of any form."""
    first = stop = np.int64(0)
    while pos < end:
        tag, pos = read_tag(buf, pos, end)
        if pos >= 0 and tag == _KEY:
            first, pos = read_sized(buf, pos, end)
            stop = pos
        elif pos >= 0:
            pos = skip_value(buf, pos, end, tag, groups)
        if pos < 0:
            return np.int64(0), np.int64(0)
    return first, stop


@njit
def find_attributes(
    buf: Any, span_range: Any, rows: Any, names: Any, keys: Any, key_stops: Any, found: Any, groups: Any
) -> None:
    """Find attributes of spans that `read_spans` has read without a fault; a broken attribute is passed over.

    - span_range: as in find_spans. rows, names: int64 (n,), a span and which of the keys is looked for in it.
    - keys, key_stops: uint8 and int64 (m,), the keys one behind the other, and the end of each.
    - found: int64 (n, 2), zeroed by the caller: first byte and end of the last KeyValue with the key.
    """
    for i in range(rows.shape[0]):
        pos, end = span_range[rows[i], 0], span_range[rows[i], 1]
        at = key_stops[names[i] - 1] if names[i] > 0 else 0
        size = key_stops[names[i]] - at
        while pos < end:
            tag, pos = read_tag(buf, pos, end)
            if tag == _ATTRIBUTES:
                first, pos = read_sized(buf, pos, end)
                key, stop = _key(buf, first, pos, groups)
                if size == stop - key and _equal(buf, key, keys, at, size):
                    found[i, 0] = first
                    found[i, 1] = pos
            else:
                pos = skip_value(buf, pos, end, tag, groups)


@inlined
def _equal(buf: Any, first: Any, other: Any, at: Any, size: Any) -> Any:
    """Return whether two arrays have the same bytes at these places: from the end on, where names mostly differ."""
    left = size
    while left > 0 and buf[first + left - 1] == other[at + left - 1]:
        left -= 1
    return left == 0
