"""Requests with spans that record exceptions."""

from collections.abc import Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.traffic import MS, START_MS, WINDOW_MS

END_MS = START_MS - 3_000
JAVA = """java.lang.IllegalStateException: cart 4711 is closed
\tat java.base/java.util.Optional.orElseThrow(Optional.java:403)
\tat com.shop.cart.Cart.add(Cart.java:88)
\tat com.shop.cart.Api.put(Api.java:17)"""
ExceptionAttributes = dict[str, str]


def span_of(number: int, *exceptions: ExceptionAttributes, end_ms: int = END_MS, name: str = "exception") -> Span:
    """Return a span of 20 ms with these exceptions. Their time is 40 s before its end, as in a slow span."""
    span = Span(trace_id=b"\xab" * 16, span_id=number.to_bytes(8, "big"), name="PUT /cart", kind=Span.SPAN_KIND_SERVER)
    span.start_time_unix_nano, span.end_time_unix_nano = (end_ms - 20) * MS, end_ms * MS
    for attributes in exceptions:
        event = span.events.add(name=name, time_unix_nano=(end_ms - 4 * WINDOW_MS) * MS)
        for key, value in attributes.items():
            event.attributes.add(key=key).value.string_value = value
    return span


def request_of(spans: Sequence[Span], service: str = "cart") -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    for key, value in (("service.name", service), ("deployment.environment.name", "prod"), ("host.name", "host-1")):
        group.resource.attributes.add(key=key).value.string_value = value
    group.scope_spans.add().spans.extend(spans)
    return request
