"""OTLP requests as protobuf messages, read from protobuf or OTLP/JSON and written as OTLP/JSON.

OTLP/JSON is proto3 JSON with hexadecimal trace and span ids (opentelemetry-proto, `docs/specification.md`), which
`google.protobuf.json_format` reads and writes as base64.
"""

from base64 import b64decode, b64encode
from typing import Final

from google.protobuf import json_format  # type: ignore[import-untyped]  # protobuf 5 has no py.typed
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from state_schemas.telemetry.signals import SignalType
from udfs.linear import expression
from udfs.otlp.signal import REQUESTS

Request = ExportTraceServiceRequest | ExportLogsServiceRequest | ExportMetricsServiceRequest

# A quote inside a JSON text has a backslash before it, so this matches fields only, never a part of a text.
_ID: Final = expression(rb'"(traceId|spanId|parentSpanId)"\s*:\s*"([^"\\]*)"')


class NotOtlp(ValueError):
    """Bytes that are not an OTLP export request; the text names the difference."""


def parse(kind: SignalType, value: bytes) -> Request:
    """Return a request of this kind from protobuf or JSON. Raises NotOtlp if it is neither.

    Unknown fields are dropped; null means absent.
    """
    request: Request = REQUESTS[kind]()
    try:
        if value.lstrip()[:1] == b"{":
            text = _ID.sub(lambda found: b'"%b":"%b"' % (found[1], b64encode(bytes.fromhex(found[2].decode()))), value)
            json_format.Parse(text.decode(), request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(value)
    except (DecodeError, json_format.ParseError, ValueError, RecursionError) as error:
        message = f"not an OTLP request of {kind}: {error}"
        raise NotOtlp(message) from error
    return request


def dumps(request: Request) -> bytes:
    """Return a request as OTLP/JSON, one line, fields in the order of their numbers."""
    text = json_format.MessageToJson(request, indent=None, use_integers_for_enums=True, ensure_ascii=False)
    return _ID.sub(lambda found: b'"%b":"%b"' % (found[1], b64decode(found[2]).hex().encode()), text.encode())
