"""Recordings written by hand: requests with their spans, and log lines; a message for each signal and 10 s."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from reasoner.recordings.message import Message
from reasoner.traffic.otlp import attributes, request
from state_schemas.telemetry.signals import SignalType

START_MS: Final = 1_700_000_100_000
BATCH_S: Final = 10
SEVERITIES: Final = {
    "INFO": SeverityNumber.SEVERITY_NUMBER_INFO,
    "WARN": SeverityNumber.SEVERITY_NUMBER_WARN,
    "ERROR": SeverityNumber.SEVERITY_NUMBER_ERROR,
}
Place = tuple[SignalType, int]


@dataclass
class Recording:
    """What is recorded of an environment. Times are seconds after START_MS."""

    env: str = "prod"
    _records: dict[Place, dict[tuple[str, str, str], list[Any]]] = field(default_factory=dict)
    _numbers: int = 0

    def line(self, at_s: float, service: str, body: str, severity: str = "ERROR", host: str = "web-1") -> None:
        record = LogRecord(
            time_unix_nano=_ns(at_s), severity_number=SEVERITIES[severity], body=AnyValue(string_value=body)
        )
        self._add("logs", at_s, (service, host, ""), record)

    def requests(
        self,
        service: str,
        times_s: Sequence[float],
        *,
        took_ms: float = 20,
        failed: bool = False,
        host: str = "web-1",
        calls: Sequence[str] = (),
        caller: str = "",
        version: str = "",
    ) -> None:
        """Add a request that ends at each time.

        calls: names of its calls. caller: the service that sends it. Each of them is a CLIENT span that fails with it.
        """
        for end_s in times_s:
            trace_id, client_id, server_id = self._id(16), self._id(8) if caller else b"", self._id(8)
            of = (service, host, version)
            spans = [(of, "GET /", Span.SPAN_KIND_SERVER, client_id, server_id)]
            spans += ((of, name, Span.SPAN_KIND_CLIENT, server_id, self._id(8)) for name in calls)
            if caller:
                spans.append(((caller, host, ""), "GET", Span.SPAN_KIND_CLIENT, b"", client_id))
            for of_span, name, kind, parent_id, span_id in spans:
                span = Span(
                    trace_id=trace_id,
                    span_id=span_id,
                    parent_span_id=parent_id,
                    name=name,
                    kind=kind,
                    start_time_unix_nano=_ns(end_s - took_ms / 1000),
                    end_time_unix_nano=_ns(end_s),
                    status=Status(code=Status.STATUS_CODE_ERROR) if failed else None,
                )
                self._add("traces", end_s, of_span, span)

    def messages(self) -> Iterator[Message]:
        """Yield the messages in the order in which they were sent: each at the end of its 10 s."""
        for (signal, batch), groups in sorted(self._records.items(), key=lambda item: (item[0][1], item[0][0])):
            records = ((_resource(self.env, *of), found) for of, found in groups.items())
            yield Message(signal, request(signal, records), START_MS + (batch + 1) * BATCH_S * 1000)

    def _add(self, signal: SignalType, at_s: float, of: tuple[str, str, str], record: Any) -> None:
        groups = self._records.setdefault((signal, int(at_s // BATCH_S)), {})
        groups.setdefault(of, []).append(record)

    def _id(self, size_bytes: int) -> bytes:
        self._numbers += 1
        return blake2b(f"{self.env}{self._numbers}".encode(), digest_size=size_bytes).digest()


def _ns(at_s: float) -> int:
    return START_MS * 1_000_000 + round(at_s * 1e9)


def _resource(env: str, service: str, host: str, version: str) -> Resource:
    names = {"service.name": service, "host.name": host, "deployment.environment.name": env, "service.version": version}
    return Resource(attributes=attributes({name: value for name, value in names.items() if value}))
