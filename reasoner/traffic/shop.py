"""Telemetry of a small web shop from a seed: export requests in the order in which two Collector gateways send them.

Eight services on 18 hosts, about 26 requests a second from outside, 350 spans, 15 log records and 13 metric points a
second. No wall clock, no external state: the same arguments give the same bytes. Normal traffic is stationary except
for a day curve of 15 % in the request rate, which does not change latencies.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from reasoner.recordings.message import Message
from reasoner.traffic.otlp import filled, request, resource, span_template
from reasoner.traffic.shop_graph import HOSTS, REQUESTS_PER_S, SHOP, Call, Incident, Operation
from reasoner.traffic.shop_records import Event, HostMetrics, log_record
from state_schemas.telemetry.signals import SignalType

ERROR_SHARE: Final = 0.003  # of SERVER spans that fail by themselves; of all spans 0.3 % fail, with callers and CLIENT
OWN_TIME_SIGMA: Final = 0.3  # of the logarithm: P95 of a service's own time is 1.64 times its median
NETWORK_NS: Final = 400_000  # one way
BATCH_MS: Final = 1_000  # each gateway sends the spans that ended within a second
GATEWAYS: Final = 2
GATEWAY_SHIFT_MS: Final = BATCH_MS // GATEWAYS  # so that the two do not send at the same time
METRICS_EVERY_BATCHES: Final = 10
DAY_CURVE: Final = 0.15
DAY_MS: Final = 86_400_000
INFO_SHARE: Final = 0.10  # of SERVER spans with a log record of that level
WARN_SHARE: Final = 0.02
# Milliseconds after the end of the batch's second. The ranges do not overlap: the order of the messages is fixed.
SEND_DELAY_MS: Final[dict[SignalType, tuple[int, int]]] = {"traces": (2, 15), "logs": (16, 30), "metrics": (31, 45)}

_Attributes = dict[str, str | int]


def messages(seed: int, start_ms: int, duration_ms: int, incident: Incident | None) -> Iterator[Message]:
    """Yield export requests (protobuf) for requests that arrive in start_ms..start_ms + duration_ms, in send order.

    Each gateway sends one message of spans and one of log records a second, and one of metrics every 10 s: 4.2 a
    second. timestamp_ms is the send time: never before an event in the message, and at most 1,045 ms after the oldest
    one. The last messages are up to some seconds after the end of the interval, when the last requests have been
    answered. With the same seed the same requests with the same ids arrive with and without an incident, and all
    messages up to its start are equal byte by byte. Cost: 12 minutes (250,000 spans, 59 MB) in about 2 s of one core;
    memory is that of the slowest request.
    """
    yield from _Shop(seed, start_ms, incident).run(duration_ms)


@dataclass(slots=True)
class _Host:
    service: str
    name: str
    gateway: int
    resource: Resource
    metrics: HostMetrics


class _SpanTemplates(NamedTuple):
    """Spans of one name: template for success and for failure."""

    ok: Span
    failed: Span


@dataclass(frozen=True, slots=True)
class _Step:
    """A call from an endpoint to another one."""

    call: Call
    client: _SpanTemplates


@dataclass(slots=True)
class _Endpoint:
    """An operation of a service. hosts: indices. own_ns_log: natural logarithm of the median own time in ns."""

    service: str
    operation: str
    hosts: list[int]
    own_ns_log: float
    server: _SpanTemplates
    internal: Span
    steps: list[_Step]


@dataclass(slots=True)
class _Batch:
    """Records that ended within one second at one gateway.

    - spans, logs: records by host index.
    - served: (host, operation, ns).
    """

    spans: dict[int, list[Span]] = field(default_factory=lambda: defaultdict(list))
    logs: dict[int, list[LogRecord]] = field(default_factory=lambda: defaultdict(list))
    served: list[tuple[int, str, int]] = field(default_factory=list)


class _Shop:
    def __init__(self, seed: int, start_ms: int, incident: Incident | None) -> None:
        self._start_ms = start_ms
        self._incident = incident
        self._random = Random(f"shop-{seed}")
        self._send_random = Random(f"shop-send-{seed}")
        self._hosts = _hosts(seed, start_ms)
        self._endpoints = {
            (service, operation.name): _endpoint(service, operation, self._hosts)
            for service, operations in SHOP.items()
            for operation in operations
        }
        self._entries = [self._endpoints["frontend", operation.name] for operation in SHOP["frontend"]]
        self._entry_shares = [operation.share for operation in SHOP["frontend"]]
        self._batches: defaultdict[int, _Batch] = defaultdict(_Batch)  # by batch number, see `_batch`
        self._next_batch = 1 - GATEWAYS

    def run(self, duration_ms: int) -> Iterator[Message]:
        end_ms = self._start_ms + duration_ms
        now_ns = self._start_ms * 1_000_000
        while True:
            wave = math.sin(2.0 * math.pi * (now_ns // 1_000_000 % DAY_MS) / DAY_MS)
            now_ns += int(self._random.expovariate(REQUESTS_PER_S * (1.0 + DAY_CURVE * wave)) * 1e9)
            if now_ns >= end_ms * 1_000_000:
                break
            # A span that ends before now began before now, so these batches are complete.
            yield from self._send_until(now_ns // 1_000_000)
            entry = self._random.choices(self._entries, self._entry_shares)[0]
            self._serve(entry, self._random.randbytes(16), b"", now_ns)
        last = max(self._batches, default=self._next_batch)
        yield from self._send_until(max(self._closed_ms(last), end_ms))

    def _serve(self, endpoint: _Endpoint, trace_id: bytes, parent_id: bytes, start_ns: int) -> tuple[int, bool]:
        """Write the spans of one served call and of all calls under it. Returns (end in ns, failed)."""
        random = self._random.random
        host = endpoint.hosts[int(random() * len(endpoint.hosts))]
        own_ns = int(math.exp(self._random.gauss(endpoint.own_ns_log, OWN_TIME_SIGMA)))
        luck = random()
        span_id = self._random.randbytes(8)
        now_ns = start_ns + own_ns // 4
        call_failed = False
        for step in endpoint.steps:
            if step.call.probability < 1.0 and random() >= step.call.probability:
                continue
            now_ns, failed = self._call(step, host, trace_id, span_id, now_ns)
            call_failed |= failed and step.call.required
        work_ns = now_ns
        now_ns += own_ns // 2
        factor, error_share = self._burden(endpoint, host, start_ns)
        # The whole span, with waiting, is `factor` times as long; the extra time is added to the service's own work.
        now_ns += int((now_ns + own_ns // 4 - start_ns) * (factor - 1.0))
        worked = filled(endpoint.internal, trace_id, (span_id, self._random.randbytes(8)), work_ns, now_ns)
        self._batch(host, now_ns).spans[host].append(worked)
        now_ns += own_ns // 4
        own_failure = luck < error_share
        template = endpoint.server.failed if own_failure or call_failed else endpoint.server.ok
        batch = self._batch(host, now_ns)
        batch.spans[host].append(filled(template, trace_id, (parent_id, span_id), start_ns, now_ns))
        batch.served.append((host, endpoint.operation, now_ns - start_ns))
        event = _event(luck, own_failure, call_failed)
        if event is not None:
            batch.logs[host].append(log_record(event, endpoint.operation, trace_id, span_id, now_ns))
        return now_ns, own_failure or call_failed

    def _call(self, step: _Step, host: int, trace_id: bytes, parent_id: bytes, start_ns: int) -> tuple[int, bool]:
        span_id = self._random.randbytes(8)
        there_ns, back_ns = (int(NETWORK_NS * self._random.uniform(0.6, 1.4)) for _ in range(2))
        end_ns, failed = self._serve(
            self._endpoints[step.call.service, step.call.operation], trace_id, span_id, start_ns + there_ns
        )
        end_ns += back_ns
        template = step.client.failed if failed else step.client.ok
        span = filled(template, trace_id, (parent_id, span_id), start_ns, end_ns)
        self._batch(host, end_ns).spans[host].append(span)
        return end_ns, failed

    def _burden(self, endpoint: _Endpoint, host: int, start_ns: int) -> tuple[float, float]:
        """Return (factor on the duration, share of failures) of a SERVER span that starts now."""
        planted = self._incident
        if (
            planted is None
            or planted.service != endpoint.service
            or planted.operation not in (None, endpoint.operation)
            or planted.host not in (None, self._hosts[host].name)
            or not planted.start_ms * 1_000_000 <= start_ns < planted.end_ms * 1_000_000
        ):
            return 1.0, ERROR_SHARE
        return (1.0, planted.factor) if planted.kind == "errors" else (planted.factor, ERROR_SHARE)

    def _batch(self, host: int, time_ns: int) -> _Batch:
        """Return the batch of a host and time.

        Batch number = GATEWAYS * second + gateway: ascending in the time at which the batch closes.
        """
        gateway = self._hosts[host].gateway
        since_ms = time_ns // 1_000_000 - self._start_ms - gateway * GATEWAY_SHIFT_MS
        return self._batches[since_ms // BATCH_MS * GATEWAYS + gateway]

    def _closed_ms(self, number: int) -> int:
        """Return when batch `number` closes, exclusive: a span that ends at this ms is in the next batch."""
        second, gateway = divmod(number, GATEWAYS)
        return self._start_ms + (second + 1) * BATCH_MS + gateway * GATEWAY_SHIFT_MS

    def _send_until(self, now_ms: int) -> Iterator[Message]:
        while self._closed_ms(self._next_batch) <= now_ms:
            yield from self._send(self._next_batch, self._batches.pop(self._next_batch, _Batch()))
            self._next_batch += 1

    def _send(self, number: int, batch: _Batch) -> Iterator[Message]:
        for host, operation, duration_ns in batch.served:
            self._hosts[host].metrics.observe(operation, duration_ns)
        closed_ms = self._closed_ms(number)
        second, gateway = divmod(number, GATEWAYS)
        metrics: dict[int, Sequence[Metric]] = {}
        if second >= 0 and (second + 1) % METRICS_EVERY_BATCHES == 0:
            hosts = [index for index, host in enumerate(self._hosts) if host.gateway == gateway]
            metrics = {index: self._hosts[index].metrics.metrics(closed_ms * 1_000_000) for index in hosts}
        contents: dict[SignalType, Mapping[int, Sequence[Any]]] = {
            "traces": batch.spans,
            "logs": batch.logs,
            "metrics": metrics,
        }
        for kind, records in contents.items():
            timestamp_ms = closed_ms + self._send_random.randint(*SEND_DELAY_MS[kind])
            if records:
                value = request(kind, ((self._hosts[host].resource, found) for host, found in sorted(records.items())))
                yield Message(kind, value, timestamp_ms)


def _event(luck: float, own_failure: bool, call_failed: bool) -> Event | None:
    """Return the log record of a served call. luck is uniform in 0..1; its low end has decided about failure."""
    if own_failure:
        return "failed"
    if call_failed:
        return "call_failed"
    if luck > 1.0 - INFO_SHARE:
        return "served"
    return "fallback" if luck > 1.0 - INFO_SHARE - WARN_SHARE else None


def _hosts(seed: int, start_ms: int) -> list[_Host]:
    hosts: list[_Host] = []
    for service, names in HOSTS.items():
        is_http = service == "frontend"
        metric = "http.server.request.duration" if is_http else "rpc.server.call.duration"
        attribute = "http.route" if is_http else "rpc.method"
        for name in names:
            metrics = HostMetrics(metric, attribute, start_ms * 1_000_000, Random(f"shop-metrics-{seed}-{name}"))
            hosts.append(_Host(service, name, len(hosts) % GATEWAYS, resource(service, name), metrics))
    return hosts


def _endpoint(service: str, operation: Operation, hosts: list[_Host]) -> _Endpoint:
    places = [index for index, host in enumerate(hosts) if host.service == service]
    own_ns_log = math.log(operation.own_ms * 1e6)
    if operation.share:
        method, _, route = operation.name.partition(" ")
        good: _Attributes = {"http.request.method": method, "http.route": route, "url.scheme": "https"}
        bad = good | {"http.response.status_code": 500, "error.type": "500"}
        good |= {"http.response.status_code": 200}
        server = _templates(operation.name, Span.SPAN_KIND_SERVER, good, bad)
    else:
        good, bad = _rpc(service, operation.name)
        server = _templates(f"shop.{service}/{operation.name}", Span.SPAN_KIND_SERVER, good, bad)
    internal = span_template(f"{operation.name} work", Span.SPAN_KIND_INTERNAL, {}, failed=False)
    return _Endpoint(service, operation.name, places, own_ns_log, server, internal, list(map(_step, operation.calls)))


def _step(call: Call) -> _Step:
    address: _Attributes = {"server.address": call.service, "server.port": 8080}
    good, bad = _rpc(call.service, call.operation)
    name = f"shop.{call.service}/{call.operation}"
    return _Step(call, _templates(name, Span.SPAN_KIND_CLIENT, address | good, address | bad))


def _rpc(service: str, operation: str) -> tuple[_Attributes, _Attributes]:
    base: _Attributes = {"rpc.system.name": "grpc", "rpc.method": f"shop.{service}/{operation}"}
    return base | {"rpc.status_code": "OK"}, base | {"rpc.status_code": "INTERNAL", "error.type": "INTERNAL"}


def _templates(name: str, kind: "Span.SpanKind.ValueType", good: _Attributes, bad: _Attributes) -> _SpanTemplates:
    return _SpanTemplates(span_template(name, kind, good, failed=False), span_template(name, kind, bad, failed=True))
