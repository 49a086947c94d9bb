"""Decoding of OTLP requests: the bytes of a message in; columns, records or `Rejected` out, never an exception.

The encoding, protobuf or JSON, is recognised for each message. The wire scanner reads spans in protobuf.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.metrics import MetricPoint
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.signals import SignalType
from state_schemas.telemetry.spans import SpanColumns, SpanException
from udfs.otlp import json_codec as otlp_json
from udfs.otlp import protobuf as otlp_proto
from udfs.otlp.protobuf import DecodeError
from udfs.otlp.span_scanner import Scanned, WireFault, scan
from udfs.otlp.values import BadContent, TooDeep

__all__ = ["DEFAULTS", "DecodeSettings", "SpanDecoder", "decode_logs", "decode_metrics"]

# The scanner's positions are 31 bits wide, as are upb's lengths.
_MESSAGE_BYTES_LIMIT: Final = 2**31 - 1
# Up to this depth the decoder itself checks the depth of a value; beyond it upb's limit of 100 nested messages applies.
_DEPTH_LIMIT: Final = 30
# A longer resource is decoded each time and not cached, so that the cache holds at most `resources_cached_max` *
# (4 kB of key + 7 names of 256 characters): 45 MB by default, 6 MB with usual resources.
_CACHED_BYTES_MAX: Final = 4096

_BLANK_THEN_BRACE: Final = re.compile(rb"[ \t\r\n]*\{")
_FIELD_1: Final = b"\x0a"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """Bounds of decoding. Raises ValueError with all faults in one message."""

    # Bytes of a message, 1..2**31-1.
    message_bytes_max: int = 16 * 2**20
    # Spans, and resources, of one message. A real span has over 50 bytes; a span of two bytes would use 58 in memory.
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


class _Refused(Exception):
    """A Rejected on its way out of a decoding function. Caught by `_decode`."""

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(rejected)
        self.rejected = rejected


class SpanDecoder:
    """A decoder of trace requests. It belongs to one thread.

    Create it in `open()`: its first message loads the compiled scanner.
    """

    def __init__(self, settings: DecodeSettings = DEFAULTS) -> None:
        self._settings = settings
        self._resources: dict[bytes, Resource] = {}
        self.decode(_FIELD_1 + b"\x00")

    def decode(self, data: bytes) -> SpanColumns | Rejected:
        """Decode one message. About 6 M spans/s of 320 bytes by the scanner; the caller owns the result.

        A message is accepted or rejected as a whole. The scanner rejects only faults that change its result. It accepts
        broken strings and values in fields that SpanColumns does not hold, above all attributes of spans. It accepts
        faults in events too, except in events named `exception` and in fields that cannot be skipped.
        """
        return _decode(data, "traces", self._settings, self._from_proto, self._from_json)

    def _from_json(self, data: bytes) -> SpanColumns:
        return self._bounded(otlp_json.span_columns(data, self._settings.depth_max))

    def _bounded(self, columns: SpanColumns) -> SpanColumns:
        count = max(len(columns.name), len(columns.resources))
        if count > self._settings.spans_max:
            raise _Refused(_too_many(count, self._settings.spans_max))
        return columns

    def _from_proto(self, data: bytes) -> SpanColumns:
        found = scan(data, self._settings.spans_max)
        if isinstance(found, int):
            raise _Refused(_too_many(found, self._settings.spans_max))
        if isinstance(found, WireFault):
            raise _Refused(_malformed_protobuf("traces", len(data), f"unreadable at byte {found.at_byte}"))
        names, name = _names(data, found)
        resources, exceptions = self._resources_of(data, found), self._exceptions_of(data, found)
        return structs.replace(found.columns, resources=resources, names=names, name=name, exceptions=exceptions)

    def _exceptions_of(self, data: bytes, found: Scanned) -> tuple[SpanException, ...]:
        ranges, depth_max = found.exception_range.tolist(), self._settings.depth_max
        return tuple(otlp_proto.exception_from(data[first:stop], span, depth_max) for span, first, stop in ranges)

    def _resources_of(self, data: bytes, found: Scanned) -> tuple[Resource, ...]:
        """Decode the resource of each ResourceSpans, which may have several `resource` fields or none."""
        parts: list[list[bytes]] = [[] for _ in range(found.resource_count)]
        for index, first, stop in found.resource_range.tolist():
            parts[index].append(data[first:stop])
        return tuple(self._resource(part) for part in parts)

    def _resource(self, parts: list[bytes]) -> Resource:
        known = self._resources.get(parts[0]) if len(parts) == 1 else None
        if known is not None:
            return known
        resource = otlp_proto.resource_from(parts, self._settings.depth_max)
        if len(parts) == 1 and len(parts[0]) <= _CACHED_BYTES_MAX:
            # Clearing the whole cache is rare (a rollout, an attack) and needs no record of the order of use.
            if len(self._resources) >= self._settings.resources_cached_max:
                self._resources.clear()
            self._resources[parts[0]] = resource
        return resource


def decode_logs(data: bytes, settings: DecodeSettings = DEFAULTS) -> tuple[LogRecord, ...] | Rejected:
    """Decode a logs request, in wire order. It is accepted or rejected as a whole."""

    def from_proto(data: bytes) -> tuple[LogRecord, ...]:
        return otlp_proto.log_records(data, settings.depth_max)

    def from_json(data: bytes) -> tuple[LogRecord, ...]:
        return otlp_json.log_records(data, settings.depth_max)

    return _decode(data, "logs", settings, from_proto, from_json)


def decode_metrics(data: bytes, settings: DecodeSettings = DEFAULTS) -> tuple[MetricPoint, ...] | Rejected:
    """Decode a metrics request, one element per data point in wire order. It is accepted or rejected as a whole."""

    def from_proto(data: bytes) -> tuple[MetricPoint, ...]:
        return otlp_proto.metric_points(data, settings.depth_max)

    def from_json(data: bytes) -> tuple[MetricPoint, ...]:
        return otlp_json.metric_points(data, settings.depth_max)

    return _decode(data, "metrics", settings, from_proto, from_json)


def _decode(
    data: bytes,
    signal: SignalType,
    settings: DecodeSettings,
    from_proto: Callable[[bytes], _T],
    from_json: Callable[[bytes], _T],
) -> _T | Rejected:
    """Choose the encoding and turn its faults into Rejected.

    Protobuf starts with field 1, whose tag is the byte of a newline, and the length after it may be the byte of a
    brace. Such bytes are JSON if they parse as JSON: a request with any span, record or point contains the byte 0x12
    (field 2), which no JSON text contains.
    """
    if not data:
        return Rejected(
            "empty", f"found no bytes, expected an OTLP {signal} request; find the producer of empty values"
        )
    if len(data) > settings.message_bytes_max:
        return _too_large(len(data), settings.message_bytes_max)
    if _BLANK_THEN_BRACE.match(data):
        found = _decode_json(data, signal, settings, from_json)
        if not (isinstance(found, Rejected) and found.reason == "malformed_json" and data.startswith(_FIELD_1)):
            return found
    return _decode_proto(data, signal, settings, from_proto)


def _decode_json(
    data: bytes, signal: SignalType, settings: DecodeSettings, from_json: Callable[[bytes], _T]
) -> _T | Rejected:
    try:
        return from_json(data)
    except _Refused as refused:
        return refused.rejected
    except (TooDeep, RecursionError):
        return _too_deep(settings.depth_max)
    except UnicodeDecodeError:
        fault = "found invalid UTF-8"
    except msgspec.DecodeError as error:
        fault = str(error)  # a JSON path and type names, no payload: the structs have neither enums nor free keys
    except BadContent as error:
        fault = str(error)
    return Rejected(
        "malformed_json", f"{fault}; expected OTLP/JSON {signal}; check that the exporter's encoding is otlp_json"
    )


def _decode_proto(
    data: bytes, signal: SignalType, settings: DecodeSettings, from_proto: Callable[[bytes], _T]
) -> _T | Rejected:
    try:
        return from_proto(data)
    except _Refused as refused:
        return refused.rejected
    except TooDeep:
        return _too_deep(settings.depth_max)
    except DecodeError:
        return _malformed_protobuf(signal, len(data), "broken protobuf, or over 100 messages inside each other,")


def _names(data: bytes, found: Scanned) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Decode the distinct names. When the scanner gave one name two numbers, the first number stays."""
    numbers: dict[str, int] = {}
    ranges = found.name_range.tolist()
    try:
        order = [numbers.setdefault(data[first:stop].decode(), len(numbers)) for first, stop in ranges]
    except UnicodeDecodeError:
        raise _Refused(_malformed_protobuf("traces", len(data), "a span name that is not UTF-8")) from None
    if len(numbers) == len(order):
        return tuple(numbers), found.columns.name
    return tuple(numbers), np.array(order, np.int32)[found.columns.name]


def _too_large(size_bytes: int, limit_bytes: int) -> Rejected:
    detail = (
        f"found {size_bytes} bytes, expected at most {limit_bytes} (message_bytes_max); "
        "lower the batch size of the Collector's exporter"
    )
    return Rejected("too_large", detail)


def _too_many(count: int, limit: int) -> Rejected:
    detail = (
        f"found {count} spans or resources in one message, expected at most {limit} (spans_max); "
        "lower the batch size of the Collector's exporter"
    )
    return Rejected("too_large", detail)


def _too_deep(depth_max: int) -> Rejected:
    detail = (
        f"found an attribute or body nested deeper than {depth_max} (depth_max), expected less; "
        "flatten it where it is produced or drop it in the Collector"
    )
    return Rejected("too_deep", detail)


def _malformed_protobuf(signal: SignalType, size_bytes: int, found: str) -> Rejected:
    detail = (
        f"found {found} of {size_bytes} bytes, expected an OTLP {signal} request; "
        f"check that the exporter's encoding is otlp_proto and that only {signal} are sent to this topic"
    )
    return Rejected("malformed_protobuf", detail)
