"""Shop telemetry as protobuf bytes: constant parts are encoded once; ids and times are filled in for each span.

Building upb objects for each span costs about 10 times as much; a test checks equality with the result of upb.
"""

import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from state_schemas.telemetry.spans import KIND_CLIENT, KIND_INTERNAL, KIND_SERVER

__all__ = ["SpanTemplate", "attributes", "delimited", "resource_block", "resource_head", "scope_head"]

_TIMES: Final = struct.Struct("<BQBQ")  # start (field 7) and end (field 8), both fixed64 with their tags
_START_TAG: Final = 7 << 3 | 1
_END_TAG: Final = 8 << 3 | 1
_TRACE_TAG: Final = b"\x0a\x10"
_SPAN_TAG: Final = b"\x12\x08"
_PARENT_TAG: Final = b"\x22\x08"
_SPAN_FIXED_BYTES: Final = 18 + 10 + _TIMES.size
_PARENT_BYTES: Final = 10

_KINDS: Final = {
    KIND_INTERNAL: Span.SPAN_KIND_INTERNAL,
    KIND_SERVER: Span.SPAN_KIND_SERVER,
    KIND_CLIENT: Span.SPAN_KIND_CLIENT,
}

VERSION: Final = "2.14.0"
ENVIRONMENT: Final = "production"
SITE_ID: Final = "fra-1"


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


def attributes(values: Mapping[str, str | int | list[str]]) -> list[KeyValue]:
    """Build attributes in the order of the mapping: strings, integers, lists of strings."""
    return [KeyValue(key=key, value=_any_value(value)) for key, value in values.items()]


def _any_value(value: str | int | list[str]) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    array = AnyValue()
    array.array_value.values.extend(AnyValue(string_value=item) for item in value)
    return array


class SpanTemplate:
    """The common part of the spans of one operation, kind and outcome. `encode` gives a ScopeSpans.spans field.

    - kind: internal, server or client.
    - has_parent: root spans have no parent id.
    - failed: status ERROR.
    """

    __slots__ = ("_fixed", "_head", "_tail")

    def __init__(
        self, name: str, kind: int, values: Mapping[str, str | int], *, has_parent: bool, failed: bool
    ) -> None:
        status = Status(code=Status.STATUS_CODE_ERROR) if failed else None
        self._fixed = Span(name=name, kind=_KINDS[kind]).SerializeToString()
        self._tail = Span(attributes=attributes(dict(values)), status=status).SerializeToString()
        length = _SPAN_FIXED_BYTES + has_parent * _PARENT_BYTES + len(self._fixed) + len(self._tail)
        self._head = varint(2 << 3 | 2) + varint(length) + _TRACE_TAG

    def encode(self, trace_id: bytes, span_id: bytes, parent_id: bytes, start_ns: int, end_ns: int) -> bytes:
        """Encode a span. trace_id: 16 bytes. span_id: 8 bytes. parent_id: 8 bytes, or b"" without a parent."""
        times = _TIMES.pack(_START_TAG, start_ns, _END_TAG, end_ns)
        parent = _PARENT_TAG + parent_id if parent_id else b""
        return b"".join((self._head, trace_id, _SPAN_TAG, span_id, parent, self._fixed, times, self._tail))


def resource_head(service: str, host: str) -> bytes:
    """Encode field 1 of ResourceSpans, ResourceLogs and ResourceMetrics, by the semantic conventions of v1.44."""
    digest = blake2b(host.encode(), digest_size=32).hexdigest()
    pod = f"{service}-{blake2b(service.encode(), digest_size=5).hexdigest()}-{digest[:5]}"
    values: dict[str, str | int | list[str]] = {
        "service.name": service,
        "service.namespace": "shop",
        "service.version": VERSION,
        "service.instance.id": pod,
        "deployment.environment.name": ENVIRONMENT,
        "site.id": SITE_ID,
        "host.name": host,
        "k8s.cluster.name": f"shop-{SITE_ID}",
        "k8s.namespace.name": "shop",
        "k8s.node.name": host,
        "k8s.deployment.name": service,
        "k8s.pod.name": pod,
        "k8s.container.name": service,
        "container.id": digest,
        "container.name": service,
        "container.image.name": f"registry.shop.internal/{service}",
        "container.image.tags": [VERSION],
        "telemetry.sdk.language": "java",
        "telemetry.sdk.name": "opentelemetry",
    }
    return delimited(1, Resource(attributes=attributes(values)).SerializeToString())


def scope_head() -> bytes:
    """Encode field 1 of ScopeSpans, ScopeLogs and ScopeMetrics."""
    return delimited(1, InstrumentationScope(name="shop.instrumentation", version="1.9.0").SerializeToString())


def resource_block(resource: bytes, scope: bytes, records: Sequence[bytes]) -> bytes:
    """Encode field 1 of an export request: one resource with one scope. records: encoded fields 2 of the scope."""
    return delimited(1, resource + delimited(2, b"".join((scope, *records))))
