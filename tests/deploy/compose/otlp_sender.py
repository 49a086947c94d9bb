"""A service that sends spans to the agent without pause, and what of them has reached Kafka."""

import time
from collections.abc import Iterator
from secrets import token_bytes
from threading import Event, Lock, Thread
from typing import Final
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from reasoner.clients.broker import consumer_of, partitions
from reasoner.clients.insight_topic import to_end
from reasoner.runs.local_run import TOPICS
from reasoner.traffic.otlp import filled, request, resource, span_template

SERVICE: Final = "edge"
_SPANS: Final = 5  # of a request; four requests a second
_INTERVAL_S: Final = 0.25
_OPENER: Final = build_opener(ProxyHandler({}))


class Sender:
    """A sender in a thread of its own. A request that is refused or not answered is given up, not sent again."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/traces"
        self._ended, self._lock = Event(), Lock()
        self._acknowledged: set[bytes] = set()
        self._thread = Thread(target=self._run, name="otlp-sender")

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def acknowledged(self) -> set[bytes]:
        """Return the ids of the spans that the agent has taken so far."""
        with self._lock:
            return set(self._acknowledged)

    def acknowledged_count(self) -> int:
        with self._lock:
            return len(self._acknowledged)

    def _run(self) -> None:
        template = span_template("GET /", Span.SPAN_KIND_SERVER, {}, failed=False)
        while not self._ended.wait(_INTERVAL_S):
            now_ns = time.time_ns()
            ids = [token_bytes(8) for _ in range(_SPANS)]
            spans = [filled(template, token_bytes(16), (b"", each), now_ns - 20_000_000, now_ns) for each in ids]
            if self._took(request("traces", [(resource(SERVICE, "edge-1"), spans)])):
                with self._lock:
                    self._acknowledged.update(ids)

    def _took(self, body: bytes) -> bool:
        sent = Request(self._url, body, {"Content-Type": "application/x-protobuf"})
        try:
            with _OPENER.open(sent, timeout=5.0) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


def span_ids_in(bootstrap: str) -> set[bytes]:
    """Return the ids of the sender's spans in Kafka."""
    return {span.span_id for service, span in _spans(bootstrap) if service == SERVICE}


def spans_in(bootstrap: str) -> int:
    """Count the spans in Kafka, those that came twice twice."""
    return sum(1 for _ in _spans(bootstrap))


def _spans(bootstrap: str) -> Iterator[tuple[str, Span]]:
    with consumer_of(bootstrap, auto_offset_reset="earliest") as consumer:
        parts = partitions(bootstrap, TOPICS["traces"])
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        for value in to_end(consumer):
            for part in ExportTraceServiceRequest.FromString(value).resource_spans:
                names = {entry.key: entry.value.string_value for entry in part.resource.attributes}
                yield from ((names["service.name"], span) for scope in part.scope_spans for span in scope.spans)
