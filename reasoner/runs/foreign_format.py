"""Recognition of messages that are no OTLP request: what they are, and the setting that mends it."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

__all__ = ["ForeignFormat", "foreign_format"]

_GZIP, _ZSTD, _SNAPPY, _LZ4 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x82SNAPPY\x00", b"\x04\x22\x4d\x18"
_SCHEMA_ID_BYTES: Final = 5  # a zero and four bytes of a schema registry
_ENCODING: Final = "set `encoding: otlp_proto` of the Collector's kafka exporter for this signal"


class ForeignFormat(NamedTuple):
    """name: what the message is. mend: the next step."""

    name: str
    mend: str


_RAW: Final = ForeignFormat("raw text", f"log lines without OTLP around them: {_ENCODING}, not `raw`")
_OTHER_JSON: Final = ForeignFormat("JSON that is no OTLP", f"{_ENCODING}, or send it through the Collector's receiver")
_COMPRESSED: Final = ForeignFormat(
    "compressed inside the message",
    "let Kafka compress (`producer: {compression: lz4}` of the exporter), not the sender",
)
_REGISTRY: Final = ForeignFormat(
    "a payload behind the id of a schema registry", "let the producer write the bytes of the request alone"
)
_SNAKE: Final = ForeignFormat(
    "OTLP/JSON with snake_case names", "let the producer write lowerCamelCase, as the specification of OTLP/JSON says"
)
# The first that fits is taken. Each looks at the members of the object, or of the first object of the array.
_JSON: Final[tuple[tuple[Callable[[Mapping[str, Any]], bool], ForeignFormat], ...]] = (
    (lambda found: any(name.startswith("resource_") for name in found), _SNAKE),
    (
        lambda found: "operationName" in found or ("process" in found and "spans" in found),
        ForeignFormat("Jaeger JSON", f"{_ENCODING}, not `jaeger_json`"),
    ),
    (
        lambda found: "traceId" in found and ("localEndpoint" in found or "timestamp" in found),
        ForeignFormat("Zipkin JSON", f"{_ENCODING}, not `zipkin_json`"),
    ),
    (lambda found: "streams" in found, ForeignFormat("the push format of Loki", _ENCODING)),
)


def foreign_format(value: bytes) -> ForeignFormat | None:
    """Return the format of a message that the job rejects, None where nothing shows it."""
    if value.startswith((_GZIP, _ZSTD, _SNAPPY, _LZ4)):
        return _COMPRESSED
    if value[:1] == b"\x00" and len(value) > _SCHEMA_ID_BYTES:
        return _REGISTRY
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    members = _members(value)
    if members is not None:
        return next((found for fits, found in _JSON if fits(members)), _OTHER_JSON)
    return _RAW if text.strip() and text.replace("\n", " ").replace("\t", " ").isprintable() else None


def _members(value: bytes) -> Mapping[str, Any] | None:
    """Return the members of a JSON object, or of the first object of an array; None for other bytes."""
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None
    first = found[0] if isinstance(found, list) and found else found
    return first if isinstance(first, dict) else {}
