"""Scanning of the protobuf bytes of an OTLP trace request: bytes in, positions and numbers of its spans out.

Accepts `ExportTraceServiceRequest` and `TracesData` (opentelemetry-proto 1.x; both have ResourceSpans as field 1). The
rules are those of the protobuf encoding and, if they leave a choice, those of upb: fields in any order; unknown fields
and known fields of a wrong wire type are skipped; the last value of a repeated scalar is taken; sub-messages merge.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.telemetry.spans import EncodedSpans, SpanColumns
from udfs.otlp.refused import Refused
from udfs.otlp.span_names import number_names
from udfs.otlp.span_scanner_kernels import EXCEPTIONS_MAX, find_spans, read_spans
from udfs.otlp.wire_kernels import GROUP_DEPTH_MAX

__all__ = ["Scanned", "scan"]

# Bytes of the shortest event named `exception` in its span: two tags, two lengths, nine letters.
_EXCEPTION_BYTES_MIN: Final = 13


class Scanned(NamedTuple):
    """The spans of a message, and the byte ranges (first byte and end, int64) that are not decoded here.

    - columns: without resources, names and exceptions.
    - resource_count: number of ResourceSpans, with or without a `resource` field.
    - resource_range: (k, 3), index of the ResourceSpans and range of one `resource` field; several fields of one index
      merge.
    - name_range: (m, 2), the names that `columns.name` numbers. A name that shares its slot with too many others may
      occur twice; different names never share a number.
    - exception_range: (j, 3), index of the span and range of an event named `exception`; the first 8 of each span.
    """

    columns: SpanColumns
    resource_count: int
    resource_range: NDArray[np.int64]
    name_range: NDArray[np.int64]
    exception_range: NDArray[np.int64]


def scan(data: bytes, spans_max: int) -> Scanned:
    """Scan one message, up to 2**31 - 1 bytes. Raises Refused, also for more than spans_max spans or resources.

    Two passes: count, then fill. The result owns its memory (74 bytes and 24 of scratch a span), apart from data. About
    7 M spans/s of 320 bytes. Strings, resources and exceptions are not decoded here: the caller checks UTF-8 and the
    content of `resource` and of events named `exception`.
    """
    buf = np.frombuffer(data, np.uint8)
    groups = np.empty(GROUP_DEPTH_MAX, np.int64)
    counts = np.zeros(3, np.int64)
    ranges = np.empty((0, 3), np.int64), np.empty((0, 2), np.int64), np.empty(0, np.int32)
    _check(find_spans(buf, counts, *ranges, groups))
    resource_count, fields, n = counts.tolist()
    most = int(counts.max())
    if most > spans_max:
        limit = f"expected at most {spans_max} (spans_max)"
        raise Refused(reason="too_large", found=f"{most} spans or resources in one message, {limit}")
    resource_range, span_range, resource = (
        np.empty((fields, 3), np.int64),
        np.empty((n, 2), np.int64),
        np.empty(n, np.int32),
    )
    counts[:] = 0
    find_spans(buf, counts, resource_range, span_range, resource, groups)
    times, ids, name_range = np.zeros((n, 2), np.uint64), np.zeros((n, 32), np.uint8), np.zeros((n, 2), np.int64)
    kind, error = np.empty(n, np.uint8), np.empty(n, np.bool_)
    # Room for the largest possible number; the memory is not touched without exceptions.
    exceptions = np.empty((1 + min(n * EXCEPTIONS_MAX, len(data) // _EXCEPTION_BYTES_MIN), 3), np.int64)
    exceptions[0] = 0
    _check(read_spans(buf, span_range, times, kind, error, ids, name_range, exceptions, groups))
    name, name_spans = number_names(buf, name_range)
    columns = SpanColumns(
        resources=(),
        names=(),
        resource=resource,
        name=name,
        start_ns=times[:, 0].copy(),
        end_ns=times[:, 1].copy(),
        kind=kind,
        error=error,
        trace_id=ids[:, :16].copy(),
        span_id=ids[:, 16:24].copy(),
        parent_span_id=ids[:, 24:].copy(),
        exceptions_beyond=int(exceptions[0, 1]),
        encoded=EncodedSpans(data, span_range),
    )
    exception_range = exceptions[1 : 1 + exceptions[0, 0]]
    return Scanned(columns, resource_count, resource_range, name_range[name_spans], exception_range)


def _check(position: int) -> None:
    """Raise Refused if a kernel found a fault."""
    if position < 0:
        raise Refused(reason="malformed_protobuf", found=f"unreadable at byte {~position}")
