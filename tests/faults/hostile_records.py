"""Records made to be expensive or unreadable, in protobuf and JSON, each with what the job must count of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_ERROR, LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from reasoner.recordings.message import Message
from reasoner.traffic.otlp import attributes, request
from state_schemas.contracts.dead_letter import RejectReason
from state_schemas.telemetry.signals import SIGNALS, SignalType
from tests.support.otlp_forms import deep_json, deep_value, otlp_json, request_of, sized
from tests.support.text_twins import MARK, damaged, damaged_json
from udfs.otlp.signal import REQUESTS

ENV: Final = "hostile"
SIZES: Final = (8_000, 32_000, 200_000)
TRACE_CHARS_MAX: Final = 16_384  # of a stack trace, further ones are not read
LEVELS: Final = 1_000
PAIR: Final = "\U0001f6d2"  # in UTF-16 a pair, in JSON two escapes
DEEP: Final = "DEEP"
# What is repeated to the length wanted, after the text before it. All are longer than a line may be.
LINES: Final = {
    "pairs with colons": ("", ":a"),
    "no space": ("", "x"),
    "open brackets": ("", "({["),
    "open quotes": ("", 'a="'),
    "names of users": ("", "user="),
    "colons behind a line feed": ("\n", ":a"),
    "JSON in JSON": ("", '{"a":'),
    "calls of a goroutine": ("panic: cart\n\ngoroutine 1 [running]:\n", "main.add("),
}
# Stack traces that do not end, in the forms of Java and Python.
TRACES: Final = {
    "frame without its end": ("java.lang.IllegalStateException: cart\n", "\tat shop.Cart.add(Cart.java"),
    "causes": ("java.lang.IllegalStateException: cart\n\tat shop.Cart.add(Cart.java:1)\n", "Caused by: a.B: "),
    "files": ("Traceback (most recent call last):\n", '  File "cart.py", line 1, in add\n'),
}


@dataclass(frozen=True)
class Hostile:
    """A message. records: those that count. severe: lines of WARN and up among them, and exceptions of spans.

    rejected: why the whole message is a dead letter, "" if it is none. repaired, cut: texts and lines that are counted
    as such.
    """

    name: str
    message: Message
    records: int = 1
    severe: int = 0
    rejected: RejectReason | None = None
    repaired: int = 0
    cut: int = 0


def hostile_records(at_ms: int) -> Iterator[Hostile]:
    """Yield every hostile message. at_ms: time of the records, and the Kafka timestamp."""
    yield from _expensive(at_ms)
    yield from _unreadable(at_ms)
    yield from _deep(at_ms)


def _expensive(at_ms: int) -> Iterator[Hostile]:
    for size in SIZES:
        for texts, is_trace in ((LINES, False), (TRACES, True)):
            for name, (head, part) in texts.items():
                text = (head + part * size)[:size]
                cut = int(not is_trace or size > TRACE_CHARS_MAX)
                for signal in SIGNALS:
                    severe = 0 if signal == "metrics" else 1
                    found = _request(signal, at_ms, text, is_trace=is_trace)
                    for form, value in (("protobuf", found.SerializeToString()), ("JSON", otlp_json(found))):
                        message = Message(signal, value, at_ms)
                        yield Hostile(f"{name}, {size}, {form}, {signal}", message, 1, severe, None, 0, cut * severe)


def _unreadable(at_ms: int) -> Iterator[Hostile]:
    """Yield messages of three records, of which one has a text that is not UTF-8."""
    for signal in SIGNALS:
        found = _request(signal, at_ms, f"Caf{MARK}", "cart", "cart")
        severe = 0 if signal == "metrics" else 3
        half = otlp_json(_request(signal, at_ms, f"Caf{PAIR}", "cart", "cart")).replace(b"\\ud83d", b"")
        for form, value in (("protobuf", damaged(found)), ("JSON", damaged_json(found)), ("half a pair", half)):
            yield Hostile(f"not UTF-8, {form}, {signal}", Message(signal, value, at_ms), 3, severe, None, 1)


def _deep(at_ms: int) -> Iterator[Hostile]:
    """Yield values that nest 1,000 levels deep. In protobuf, an attribute of a span is not read."""
    for signal in SIGNALS:
        found = _request(signal, at_ms, DEEP)
        in_json = otlp_json(found).replace(b'{"stringValue": "DEEP"}', deep_json(LEVELS).encode())
        yield Hostile(f"deep, JSON, {signal}", Message(signal, in_json, at_ms), 0, 0, "too_deep")
    attribute = sized(1, b"k") + sized(2, deep_value(LEVELS))
    span = _span(at_ms, "", 0, is_trace=False).SerializeToString() + sized(9, attribute)
    body = _log(at_ms, "", 0, is_trace=False).SerializeToString() + sized(5, deep_value(LEVELS))
    point = sized(5, sized(1, sized(7, attribute)))
    yield Hostile(
        "deep, protobuf, traces",
        Message("traces", request_of(span, resource=_resource("traces").SerializeToString()), at_ms),
        1,
        1,
    )
    yield Hostile("deep, protobuf, logs", Message("logs", request_of(body), at_ms), 0, 0, "malformed_protobuf")
    yield Hostile("deep, protobuf, metrics", Message("metrics", request_of(point), at_ms), 0, 0, "malformed_protobuf")


def _request(signal: SignalType, at_ms: int, *texts: str, is_trace: bool = False) -> Any:
    """Return a request with a record for each text. is_trace: whether exceptions of spans have it as their trace."""
    made = {"traces": _span, "logs": _log, "metrics": _metric}[signal]
    records = [made(at_ms, text, number, is_trace=is_trace) for number, text in enumerate(texts)]
    return REQUESTS[signal].FromString(request(signal, [(_resource(signal), records)]))


def _resource(signal: SignalType) -> Resource:
    return Resource(attributes=attributes({"service.name": f"hostile-{signal}", "deployment.environment.name": ENV}))


def _log(at_ms: int, text: str, number: int, *, is_trace: bool) -> LogRecord:
    return LogRecord(
        time_unix_nano=at_ms * 1_000_000 + number,
        severity_number=SEVERITY_NUMBER_ERROR,
        body=AnyValue(string_value=text),
    )


def _span(at_ms: int, text: str, number: int, *, is_trace: bool) -> Span:
    end_ns = at_ms * 1_000_000
    values = {"exception.type": "shop.Full", "exception.stacktrace" if is_trace else "exception.message": text}
    return Span(
        trace_id=at_ms.to_bytes(16, "big"),
        span_id=(number + 1).to_bytes(8, "big"),
        name="GET /hostile",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=end_ns - 9_000_000,
        end_time_unix_nano=end_ns,
        events=[Span.Event(time_unix_nano=end_ns, name="exception", attributes=attributes(values))],
    )


def _metric(at_ms: int, text: str, number: int, *, is_trace: bool) -> Metric:
    point = NumberDataPoint(time_unix_nano=at_ms * 1_000_000 + number, as_int=1, attributes=attributes({"text": text}))
    metric = Metric(name="hostile")
    metric.gauge.data_points.append(point)
    return metric
