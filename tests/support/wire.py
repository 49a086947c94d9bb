"""Protobuf wire bytes written by hand, where a test needs a million records."""

from collections.abc import Sequence

from reasoner.traffic.otlp import SCOPE, resource


def varint(number: int) -> bytes:
    """Encode a number >= 0 as a base-128 varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(field: int, payload: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def resource_head(service: str, host: str) -> bytes:
    """Encode field 1 of ResourceSpans, ResourceLogs and ResourceMetrics."""
    return delimited(1, resource(service, host).SerializeToString())


def scope_head() -> bytes:
    """Encode field 1 of ScopeSpans, ScopeLogs and ScopeMetrics."""
    return delimited(1, SCOPE.SerializeToString())


def resource_block(resource: bytes, scope: bytes, records: Sequence[bytes]) -> bytes:
    """Encode field 1 of an export request: one resource with one scope. records: encoded fields 2 of the scope."""
    return delimited(1, resource + delimited(2, b"".join((scope, *records))))
