"""Values that the two encodings of OTLP share: conversion of values, ids and enums, and the columns built from them."""

from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import Final

import msgspec
import numpy as np

from state_schemas.telemetry.metrics import HistogramValue, Temporality
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import SpanColumns, SpanException

__all__ = [
    "EXCEPTION",
    "EXCEPTION_ATTRIBUTES",
    "SPAN_ID_BYTES",
    "TRACE_ID_BYTES",
    "BadContent",
    "Plain",
    "SpanRows",
    "TooDeep",
    "attributes_of",
    "bytes_of",
    "clean_kind",
    "exception_of",
    "hex_id",
    "histogram",
    "temporality",
    "text_of",
]

# An AnyValue as plain data.
Plain = None | bool | int | float | str | bytes | list["Plain"] | dict[str, "Plain"]

EXCEPTION: Final = "exception"  # name of the span events that are read
EXCEPTION_ATTRIBUTES: Final = ("exception.type", "exception.message", "exception.stacktrace")
TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8
_NO_TRACE_ID: Final = bytes(TRACE_ID_BYTES)
_NO_SPAN_ID: Final = bytes(SPAN_ID_BYTES)
_URL_SAFE: Final = str.maketrans("-_", "+/")
_KIND_MAX: Final = 5
_TEMPORALITIES: Final[dict[int, Temporality]] = {1: "delta", 2: "cumulative"}


class TooDeep(Exception):
    """An AnyValue that nests deeper than `depth_max`. Caught by `udfs.otlp.decoder`."""


class BadContent(Exception):
    """Readable content that OTLP does not allow. Caught by `udfs.otlp.decoder`.

    The text names what was found and what is expected, without payload.
    """


def text_of(value: Plain) -> str:
    """Return a value as text: strings unchanged, bytes as lower-case hex, None as "", all others as JSON.

    Objects have sorted keys; bytes inside them are hex strings, NaN and infinities are the strings of OTLP/JSON.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    jsonable = _jsonable(value)
    return jsonable if isinstance(jsonable, str) else msgspec.json.encode(jsonable, order="sorted").decode()


def _jsonable(value: Plain) -> Plain:
    """Replace values that JSON does not have. Recursion is bounded by `depth_max`: deeper values were rejected."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [_jsonable(element) for element in value]
    if isinstance(value, dict):
        return {key: _jsonable(element) for key, element in value.items()}
    return value


def attributes_of(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Sort attributes by name; of several with one name the greatest is kept. The order on the wire is irrelevant."""
    return tuple(dict(sorted(pairs)).items())


def hex_id(value: bytes, size: int) -> str:
    """Return an id as lower-case hex, "" if it is all zero or has another length than `size` bytes."""
    return value.hex() if len(value) == size and any(value) else ""


def bytes_of(base64: str) -> bytes:
    """Decode base64 as protobuf's JSON mapping does: either alphabet, with or without padding."""
    text = base64.translate(_URL_SAFE)
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        message = "found a bytesValue that is not base64, expected base64"
        raise BadContent(message) from None


def clean_kind(kind: int) -> int:
    """Return a span kind of 0..5; unknown ones are 0."""
    return kind if 0 <= kind <= _KIND_MAX else 0


def exception_of(span: int, time_ns: int, attributes: Iterable[tuple[str, str]]) -> SpanException:
    """Build an exception from EXCEPTION_ATTRIBUTES of its event; of several with one name the last is kept."""
    found = dict(attributes)
    return SpanException(span, time_ns, *(found.get(name, "") for name in EXCEPTION_ATTRIBUTES))


def temporality(value: int) -> Temporality:
    """Return the name of an AggregationTemporality; unknown values are "unspecified"."""
    return _TEMPORALITIES.get(value, "unspecified")


def histogram(
    count: int,
    total: float | None,
    bounds: Sequence[float],
    bucket_counts: Sequence[int],
    limits: tuple[float | None, float | None],
) -> HistogramValue:
    """Build an explicit-bucket histogram; limits: min, max.

    Buckets that contradict their bounds (lengths, order, NaN) are left out; count, sum, min and max are kept, because
    they are valid without buckets. One faulty exporter must not cost the points of others in the same message.
    """
    rising = all(a < b for a, b in pairwise(bounds)) and not any(b != b for b in bounds)
    if not rising or len(bucket_counts) != len(bounds) + 1:
        bounds, bucket_counts = (), ()
    return HistogramValue(count, total, tuple(bounds), tuple(bucket_counts), *limits)


@dataclass(slots=True)
class SpanRows:
    """Spans collected one by one, for encodings without a scanner.

    All lists but `resources` and `exceptions` have the same length.
    """

    resources: list[Resource] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    resource: list[int] = field(default_factory=list)
    name: list[int] = field(default_factory=list)
    start_ns: list[int] = field(default_factory=list)
    end_ns: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    error: list[bool] = field(default_factory=list)
    trace_id: list[bytes] = field(default_factory=list)
    span_id: list[bytes] = field(default_factory=list)
    parent_span_id: list[bytes] = field(default_factory=list)
    exceptions: list[SpanException] = field(default_factory=list)
    exceptions_beyond: int = 0

    def add_name(self, name: str) -> None:
        """Add the name of a span; names are numbered by first appearance."""
        self.name.append(self.names.setdefault(name, len(self.names)))

    def add_ids(self, trace_id: bytes, span_id: bytes, parent_span_id: bytes) -> None:
        """Add the ids of a span; ids of another length become zeros."""
        self.trace_id.append(trace_id if len(trace_id) == TRACE_ID_BYTES else _NO_TRACE_ID)
        self.span_id.append(span_id if len(span_id) == SPAN_ID_BYTES else _NO_SPAN_ID)
        self.parent_span_id.append(parent_span_id if len(parent_span_id) == SPAN_ID_BYTES else _NO_SPAN_ID)

    def columns(self) -> SpanColumns:
        """Build the columns. O(spans)."""
        return SpanColumns(
            resources=tuple(self.resources),
            names=tuple(self.names),
            resource=np.array(self.resource, np.int32),
            name=np.array(self.name, np.int32),
            start_ns=np.array(self.start_ns, np.uint64),
            end_ns=np.array(self.end_ns, np.uint64),
            kind=np.array(self.kind, np.uint8),
            error=np.array(self.error, np.bool_),
            trace_id=_matrix(self.trace_id, TRACE_ID_BYTES),
            span_id=_matrix(self.span_id, SPAN_ID_BYTES),
            parent_span_id=_matrix(self.parent_span_id, SPAN_ID_BYTES),
            exceptions=tuple(self.exceptions),
            exceptions_beyond=self.exceptions_beyond,
        )


def _matrix(ids: list[bytes], size: int) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    """Stack ids of one size into a writable array."""
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, size).copy()
