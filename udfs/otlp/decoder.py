"""Decoding of OTLP requests: the bytes of a message in; columns, records or `Rejected` out, never an exception.

The encoding, protobuf or JSON, is recognised for each message; JSON is translated. The wire scanner reads spans.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from state_schemas.contracts.dead_letter import Rejected, RejectReason
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.metrics import MetricPoint
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.signals import SignalType
from state_schemas.telemetry.spans import SpanColumns
from udfs.linear import expression
from udfs.otlp.json_form import to_protobuf
from udfs.otlp.protobuf import DecodeError, ProtobufReader
from udfs.otlp.refused import Refused
from udfs.otlp.repair import Repaired
from udfs.otlp.span_scanner import Scanned, scan

__all__ = [
    "DEFAULTS",
    "NO_ATTRIBUTES",
    "AskedAttributes",
    "DecodeSettings",
    "Records",
    "SpanDecoder",
    "decode_logs",
    "decode_metrics",
    "decode_records",
]

# The scanner's positions are 31 bits wide, as are upb's lengths.
_MESSAGE_BYTES_LIMIT: Final = 2**31 - 1
# Up to this depth the decoder itself checks the depth of a value; beyond it upb's limit of 100 nested messages applies.
_DEPTH_LIMIT: Final = 30
# A longer resource is decoded each time and not cached, so that the cache holds at most `resources_cached_max` *
# (4 kB of key + 7 names of 256 characters): 45 MB by default, 6 MB with usual resources.
_CACHED_BYTES_MAX: Final = 4096

_BLANK_THEN_BRACE: Final = expression(rb"[ \t\r\n]*\{")
_FIELD_1: Final = b"\x0a"

_T = TypeVar("_T")


class Records(NamedTuple, Generic[_T]):
    """The records of one message, in wire order."""

    records: tuple[_T, ...]
    # Texts that were not UTF-8; each of their invalid bytes is U+FFFD.
    texts_repaired: int


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """Bounds of decoding. Raises ValueError with all faults in one message."""

    # Bytes of a message, 1..2**31-1.
    message_bytes_max: int = 16 * 2**20
    # Spans, and resources, of one message. A real span has over 50 bytes; a span of two bytes would use 74 in memory.
    spans_max: int = 1_000_000
    # Nested arrays and objects in the value of an attribute, 1..30.
    depth_max: int = 24
    # Decoded resources that a SpanDecoder caches.
    resources_cached_max: int = 4096

    def __post_init__(self) -> None:
        limits = {
            "message_bytes_max": _MESSAGE_BYTES_LIMIT,
            "spans_max": _MESSAGE_BYTES_LIMIT,
            "depth_max": _DEPTH_LIMIT,
            "resources_cached_max": _MESSAGE_BYTES_LIMIT,
        }
        faults = [
            f"{name} is {getattr(self, name)}, must be 1..{limit}"
            for name, limit in limits.items()
            if not 1 <= getattr(self, name) <= limit
        ]
        if faults:
            message = "decode settings: " + "; ".join(faults)
            raise ValueError(message)


DEFAULTS: Final = DecodeSettings()


class AskedAttributes(NamedTuple):
    """Names of the attributes that are read beyond those that each job reads, ascending.

    - span: of spans, which SpanColumns keeps encoded; OTLP/JSON is translated with these alone.
    - resource: of resources, which `Resource.attributes` holds.
    """

    span: tuple[str, ...] = ()
    resource: tuple[str, ...] = ()


NO_ATTRIBUTES: Final = AskedAttributes()


# Detail of a Rejected. found: what a decoder found.
_DETAILS: Final[Mapping[RejectReason, str]] = {
    "empty": "found no bytes, expected an OTLP {signal} request; find the producer of empty values",
    "too_large": "found {found}; lower the batch size of the Collector's exporter",
    "too_deep": "found an attribute or body nested deeper than {depth_max} (depth_max), expected less; "
    "flatten it where it is produced or drop it in the Collector",
    "malformed_json": "{found}; expected OTLP/JSON {signal}; check that the exporter's encoding is otlp_json",
    "malformed_protobuf": "found {found} of {size} bytes, expected an OTLP {signal} request; "
    "check that the exporter's encoding is otlp_proto and that only {signal} are sent to this topic",
}


class SpanDecoder:
    """A decoder of trace requests. It belongs to one thread.

    Create it in `open()`: its first message loads the compiled scanner.
    """

    def __init__(self, settings: DecodeSettings = DEFAULTS, asked: AskedAttributes = NO_ATTRIBUTES) -> None:
        self._settings = settings
        self._reader = ProtobufReader(settings.depth_max, asked.resource)
        self._span_attributes = frozenset(asked.span)
        self._resources: dict[bytes, _Known] = {}
        self.decode(_FIELD_1 + b"\x00")

    def decode(self, data: bytes) -> SpanColumns | Rejected:
        """Decode one message. About 6 M spans/s of 320 bytes by the scanner; the caller owns the result.

        A message is accepted or rejected as a whole. The scanner rejects only faults that change its result. It accepts
        broken strings and values in fields that SpanColumns does not hold, above all attributes of spans. It accepts
        faults in events too, except in events named `exception` and in fields that cannot be skipped.
        """
        return _decode(_Encoded(data, "traces", self._span_attributes), self._settings, self._columns)

    def _columns(self, request: Repaired) -> SpanColumns:
        data = request.data
        found = scan(data, self._settings.spans_max)
        names = _names(data, found)
        resources = self._resources_of(data, found)
        reader = self._reader
        before = reader.texts_repaired
        exceptions = tuple(
            reader.exception(data[first:stop], span) for span, first, stop in found.exception_range.tolist()
        )
        repaired = request.texts + names.repaired + sum(known.repaired for known in resources)
        return structs.replace(
            found.columns,
            resources=tuple(known.resource for known in resources),
            names=names.names,
            name=names.name,
            exceptions=exceptions,
            texts_repaired=repaired + reader.texts_repaired - before,
        )

    def _resources_of(self, data: bytes, found: Scanned) -> list["_Known"]:
        """Decode the resource of each ResourceSpans, which may have several `resource` fields or none."""
        parts: list[list[bytes]] = [[] for _ in range(found.resource_count)]
        for index, first, stop in found.resource_range.tolist():
            parts[index].append(data[first:stop])
        return list(map(self._resource, parts))

    def _resource(self, parts: list[bytes]) -> "_Known":
        known = self._resources.get(parts[0]) if len(parts) == 1 else None
        if known is not None:
            return known
        before = self._reader.texts_repaired
        resource = self._reader.resource(parts)
        known = _Known(resource, self._reader.texts_repaired - before)
        if len(parts) == 1 and len(parts[0]) <= _CACHED_BYTES_MAX:
            # Clearing the whole cache is rare (a rollout, an attack) and needs no record of the order of use.
            if len(self._resources) >= self._settings.resources_cached_max:
                self._resources.clear()
            self._resources[parts[0]] = known
        return known


class _Known(NamedTuple):
    """A decoded resource. repaired: number of its texts that were not UTF-8."""

    resource: Resource
    repaired: int


class _SpanNames(NamedTuple):
    """The distinct names of spans, the index of each span into them, and how many were not UTF-8."""

    names: tuple[str, ...]
    name: NDArray[np.int32]
    repaired: int


def decode_logs(
    data: bytes, settings: DecodeSettings = DEFAULTS, asked: AskedAttributes = NO_ATTRIBUTES
) -> Records[LogRecord] | Rejected:
    """Decode a logs request. It is accepted or rejected as a whole."""
    reader = ProtobufReader(settings.depth_max, asked.resource)
    return _decode(_Encoded(data, "logs"), settings, _records(reader, reader.log_records))


def decode_metrics(data: bytes, settings: DecodeSettings = DEFAULTS) -> Records[MetricPoint] | Rejected:
    """Decode a metrics request, one element per data point. It is accepted or rejected as a whole."""
    reader = ProtobufReader(settings.depth_max)
    return _decode(_Encoded(data, "metrics"), settings, _records(reader, reader.metric_points))


def decode_records(
    data: bytes, signal: SignalType, settings: DecodeSettings = DEFAULTS
) -> Records[LogRecord] | Records[MetricPoint] | Rejected:
    """Decode a request of a signal whose records are no spans."""
    return decode_logs(data, settings) if signal == "logs" else decode_metrics(data, settings)


def _records(reader: ProtobufReader, read: Callable[[bytes], tuple[_T, ...]]) -> Callable[[Repaired], Records[_T]]:
    """Return the decoder of a request whose records upb parses, by a method of the reader."""

    def decode(request: Repaired) -> Records[_T]:
        records = read(request.data)
        return Records(records, request.texts + reader.texts_repaired)

    return decode


class _Encoded(NamedTuple):
    """A request, in protobuf or JSON. span_attributes: as in to_protobuf."""

    data: bytes
    signal: SignalType
    span_attributes: frozenset[str] = frozenset()


def _decode(request: _Encoded, settings: DecodeSettings, read: Callable[[Repaired], _T]) -> _T | Rejected:
    """Read a request by `read`; turn its faults into Rejected."""
    data, signal, _ = request
    try:
        if not data:
            raise Refused(reason="empty")
        if len(data) > settings.message_bytes_max:
            limit = f"expected at most {settings.message_bytes_max} (message_bytes_max)"
            raise Refused(reason="too_large", found=f"{len(data)} bytes, {limit}")
        return read(_in_protobuf(request))
    except DecodeError:
        fault = Refused(reason="malformed_protobuf", found="broken protobuf, or over 100 messages inside each other,")
    except Refused as refused:
        fault = refused
    facts = {"found": fault.found, "signal": signal, "depth_max": settings.depth_max, "size": len(data)}
    return Rejected(fault.reason, _DETAILS[fault.reason].format_map(facts))


def _in_protobuf(request: _Encoded) -> Repaired:
    """Return the request in protobuf, whichever its encoding is.

    Protobuf starts with field 1, whose tag is the byte of a newline, and the length after it may be the byte of a
    brace. Such bytes are JSON if they parse as JSON: a request with any span, record or point contains the byte 0x12
    (field 2), which no JSON text contains.
    """
    data = request.data
    if not _BLANK_THEN_BRACE.match(data):
        return Repaired(data, 0)
    try:
        return to_protobuf(*request)
    except Refused as refused:
        if refused.reason == "malformed_json" and data.startswith(_FIELD_1):
            return Repaired(data, 0)
        raise


def _names(data: bytes, found: Scanned) -> _SpanNames:
    """Decode the distinct names. When two get one number, by the scanner or by repair, the first number stays."""
    numbers: dict[str, int] = {}
    ranges = found.name_range.tolist()
    repaired = 0
    try:
        order = [numbers.setdefault(data[first:stop].decode(), len(numbers)) for first, stop in ranges]
    except UnicodeDecodeError:
        texts = [data[first:stop].decode(errors="replace") for first, stop in ranges]
        repaired = sum(text.encode() != data[first:stop] for text, (first, stop) in zip(texts, ranges, strict=True))
        numbers.clear()
        order = [numbers.setdefault(text, len(numbers)) for text in texts]
    if len(numbers) == len(order):
        return _SpanNames(tuple(numbers), found.columns.name, repaired)
    return _SpanNames(tuple(numbers), np.array(order, np.int32)[found.columns.name], repaired)
