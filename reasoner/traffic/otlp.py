"""Parts of generated telemetry as protobuf messages: resources, attributes, spans, and whole export requests."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from state_schemas.telemetry.signals import SignalType
from udfs.otlp.signal import REQUESTS

SCOPE: Final = InstrumentationScope(name="shop.instrumentation", version="1.9.0")
VERSION: Final = "2.14.0"
ENVIRONMENT: Final = "production"
SITE_ID: Final = "fra-1"

# Suffix of the fields of resources and scopes, and the field of the records.
_FIELDS: Final[dict[SignalType, tuple[str, str]]] = {
    "traces": ("spans", "spans"),
    "logs": ("logs", "log_records"),
    "metrics": ("metrics", "metrics"),
}


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


def span_template(name: str, kind: "Span.SpanKind.ValueType", values: Mapping[str, str | int], *, failed: bool) -> Span:
    """Build the common part of the spans of one operation, kind and outcome."""
    status = Status(code=Status.STATUS_CODE_ERROR) if failed else None
    return Span(name=name, kind=kind, attributes=attributes(dict(values)), status=status)


def filled(template: Span, trace_id: bytes, parent_and_id: tuple[bytes, bytes], start_ns: int, end_ns: int) -> Span:
    """Return a span of the template. trace_id: 16 bytes. parent_and_id: 8 bytes each, or b"" without a parent."""
    span = Span()
    span.CopyFrom(template)
    span.trace_id = trace_id
    span.parent_span_id, span.span_id = parent_and_id
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
    return span


def resource(service: str, host: str) -> Resource:
    """Build a resource by the semantic conventions of v1.44."""
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
    return Resource(attributes=attributes(values))


def request(signal: SignalType, records: Iterable[tuple[Resource, Sequence[Any]]]) -> bytes:
    """Encode an export request: the records of each resource in one scope, in their order."""
    (suffix, field), message = _FIELDS[signal], REQUESTS[signal]()
    for of, found in records:
        group = getattr(message, f"resource_{suffix}").add(resource=of)
        scope = getattr(group, f"scope_{suffix}").add(scope=SCOPE)
        getattr(scope, field).extend(found)
    value: bytes = message.SerializeToString()
    return value
