"""Log records and metrics of one shop host."""

from bisect import bisect_left
from random import Random
from typing import Final, Literal

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from reasoner.traffic.otlp import attributes

Event = Literal["served", "fallback", "call_failed", "failed"]

_SEVERITY: Final = {
    "served": (SeverityNumber.SEVERITY_NUMBER_INFO, "INFO"),
    "fallback": (SeverityNumber.SEVERITY_NUMBER_WARN, "WARN"),
    "call_failed": (SeverityNumber.SEVERITY_NUMBER_WARN, "WARN"),
    "failed": (SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR"),
}
_CUMULATIVE: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE

# Advised bounds of `http.server.request.duration` in the semantic conventions, in seconds.
DURATION_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


def log_record(event: Event, operation: str, trace_id: bytes, span_id: bytes, time_ns: int) -> LogRecord:
    """Return a log record. The numbers in its text come from the trace id, so they differ."""
    user, item = int.from_bytes(trace_id[:2], "big"), int.from_bytes(trace_id[2:5], "big")
    number, text = _SEVERITY[event]
    body = {
        "served": f"{operation} done for user {user}, {item % 40} items",
        "fallback": f"cache miss for key item:{item}, read from the store instead",
        "call_failed": f"{operation}: a call for user {user} failed, giving up",
        "failed": f"{operation} failed for user {user}: store connection reset while reading item {item}",
    }[event]
    record = LogRecord(
        time_unix_nano=time_ns,
        observed_time_unix_nano=time_ns + 50_000,
        severity_number=number,
        severity_text=text,
        body=AnyValue(string_value=body),
        trace_id=trace_id,
        span_id=span_id,
    )
    if event == "failed":
        record.attributes.extend(
            attributes({"exception.type": "StoreConnectionError", "exception.message": "connection reset by peer"})
        )
    return record


class HostMetrics:
    """Cumulative counters of one host since start_ns, and its gauges; `metrics` returns their current values.

    The duration histogram has exactly the SERVER spans given to `observe`. CPU and memory are stationary: an incident
    of this shop is slow waiting or failure, not a lack of CPU or memory.
    """

    def __init__(self, metric: str, attribute: str, start_ns: int, random: Random) -> None:
        self._metric = metric
        self._attribute = attribute
        self._start_ns = start_ns
        self._random = random
        self._memory_bytes = random.uniform(2.2e8, 4.5e8)
        self._cpu_share = random.uniform(0.15, 0.45)
        self._cpu_s = 0.0
        self._last_ns = start_ns
        self._buckets: dict[str, list[int]] = {}
        self._sum_s: dict[str, float] = {}

    def observe(self, operation: str, duration_ns: int) -> None:
        """Add one SERVER span."""
        duration_s = duration_ns / 1e9
        buckets = self._buckets.setdefault(operation, [0] * (len(DURATION_BOUNDS_S) + 1))
        buckets[bisect_left(DURATION_BOUNDS_S, duration_s)] += 1
        self._sum_s[operation] = self._sum_s.get(operation, 0.0) + duration_s

    def metrics(self, now_ns: int) -> tuple[Metric, ...]:
        """Return two gauges, one sum, one histogram with a point per operation seen."""
        cpu_cores = max(0.01, self._random.gauss(self._cpu_share, 0.03))
        self._cpu_s += cpu_cores * (now_ns - self._last_ns) / 1e9
        self._last_ns = now_ns
        memory_bytes = int(self._random.gauss(self._memory_bytes, 4e6))
        cpu_time = Sum(aggregation_temporality=_CUMULATIVE, is_monotonic=True)
        cpu_time.data_points.add(start_time_unix_nano=self._start_ns, time_unix_nano=now_ns, as_double=self._cpu_s)
        usage = Gauge(data_points=[NumberDataPoint(time_unix_nano=now_ns, as_double=cpu_cores)])
        memory = Gauge(data_points=[NumberDataPoint(time_unix_nano=now_ns, as_int=memory_bytes)])
        return (
            Metric(name="container.cpu.usage", unit="{cpu}", gauge=usage),
            Metric(name="container.memory.working_set", unit="By", gauge=memory),
            Metric(name="container.cpu.time", unit="s", sum=cpu_time),
            Metric(name=self._metric, unit="s", histogram=self._durations(now_ns)),
        )

    def _durations(self, now_ns: int) -> Histogram:
        histogram = Histogram(aggregation_temporality=_CUMULATIVE)
        for operation, buckets in sorted(self._buckets.items()):
            point = HistogramDataPoint(
                start_time_unix_nano=self._start_ns,
                time_unix_nano=now_ns,
                attributes=attributes({self._attribute: operation}),
                count=sum(buckets),
                sum=self._sum_s[operation],
                explicit_bounds=DURATION_BOUNDS_S,
                bucket_counts=buckets,
            )
            histogram.data_points.append(point)
        return histogram
