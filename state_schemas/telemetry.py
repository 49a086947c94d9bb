"""Decoded telemetry: what one OTLP export request holds, as columns (spans) or records (logs, metric points).

Everything here is the output of `udfs.otlp` and the input of the folds. Times are nanoseconds since the Unix epoch
as OTLP carries them (fixed64), unchecked: the folds judge them against the Kafka timestamp.
"""

from dataclasses import dataclass
from typing import Final, Literal, NewType

import numpy as np
from numpy.typing import NDArray

Env = NewType("Env", str)
ServiceName = NewType("ServiceName", str)

SignalType = Literal["traces", "logs", "metrics"]

# Closed list: a dead letter's `reason`, a metric label, and a line in docs/rejected.md.
RejectReason = Literal[
    "malformed_protobuf",  # not a readable OTLP export request
    "malformed_json",  # starts like JSON but is not OTLP/JSON
    "empty",  # no bytes at all (a tombstone)
    "too_large",  # longer than `message_bytes_max`
    "too_deep",  # AnyValue nested deeper than `depth_max`
    "end_before_start",  # a span that ends before it starts
    "no_time",  # a record whose event time is 0 or missing
    "future",  # event time beyond the Kafka timestamp + `future_max_ms`
    "too_old",  # event time older than the Kafka timestamp - `age_max_ms`
    "duplicate_span",  # the same (trace id, span id) twice within one message
]

# Names of span kinds by their OTLP enum value; unknown values are read as 0.
SPAN_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
KIND_INTERNAL: Final = 1
KIND_SERVER: Final = 2
KIND_CLIENT: Final = 3
KIND_CONSUMER: Final = 5
ENTRY_KINDS: Final = frozenset((KIND_SERVER, KIND_CONSUMER))  # what a service answers: its latency is their duration


@dataclass(frozen=True, slots=True)
class Resource:
    """Who produced the telemetry, read from resource attributes by the alias table in `udfs.resource`.

    env, service and host are never empty: their fall-backs are "default", "unknown_service" and "unknown_host".
    The rest is "" where the attributes do not say.
    """

    env: str
    service: str
    host: str
    site_id: str = ""
    container: str = ""
    image: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class SpanException:
    """An event named `exception` of a span. span: its place in the columns. time_ns: of the event, unchecked.

    type, message, stacktrace: attributes `exception.*`, texts as in `LogRecord`, "" where absent.
    """

    span: int
    time_ns: int
    type: str
    message: str
    stacktrace: str


@dataclass(frozen=True, slots=True)
class SpanColumns:
    """The n spans of one message, one array element each, in wire order.

    resource: int32 (n,), index into `resources`. name: int32 (n,), index into `names`.
    start_ns, end_ns: uint64 (n,). kind: uint8 (n,), 0..5. error: bool (n,), status code == ERROR.
    trace_id: uint8 (n, 16). span_id, parent_span_id: uint8 (n, 8); all zero means absent or of another length.
    The arrays belong to the receiver: a decoder never reuses their memory.
    exceptions: in wire order, ascending by span; of one span the first 8.
    exceptions_beyond: further ones of all spans, only counted.
    """

    resources: tuple[Resource, ...]
    names: tuple[str, ...]
    resource: NDArray[np.int32]
    name: NDArray[np.int32]
    start_ns: NDArray[np.uint64]
    end_ns: NDArray[np.uint64]
    kind: NDArray[np.uint8]
    error: NDArray[np.bool_]
    trace_id: NDArray[np.uint8]
    span_id: NDArray[np.uint8]
    parent_span_id: NDArray[np.uint8]
    exceptions: tuple[SpanException, ...] = ()
    exceptions_beyond: int = 0


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log record. time_ns is `time_unix_nano`, or `observed_time_unix_nano` where that is 0.

    body: the string body; structured bodies as canonical JSON (sorted keys), bytes as lower-case hex.
    attributes: strings as they are, other scalars as JSON text. trace_id, span_id: lower-case hex or "".
    """

    resource: Resource
    time_ns: int
    severity_number: int
    severity_text: str
    body: str
    event_name: str
    attributes: tuple[tuple[str, str], ...]
    trace_id: str
    span_id: str


MetricKind = Literal["gauge", "sum", "histogram", "exponential_histogram", "summary"]
Temporality = Literal["unspecified", "delta", "cumulative"]


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """Explicit-bucket histogram. len(bucket_counts) == len(bounds) + 1, or both empty. min/max absent: None."""

    count: int
    sum: float | None
    bounds: tuple[float, ...]
    bucket_counts: tuple[int, ...]
    min: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class ExponentialHistogramValue:
    """Exponential histogram of the OTel data model: bucket i holds (base**i, base**(i+1)], base = 2**(2**-scale)."""

    count: int
    sum: float | None
    scale: int
    zero_count: int
    zero_threshold: float
    positive_offset: int
    positive_counts: tuple[int, ...]
    negative_offset: int
    negative_counts: tuple[int, ...]
    min: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class SummaryValue:
    """Summary point: (quantile, value) pairs as the producer computed them."""

    count: int
    sum: float
    quantiles: tuple[tuple[float, float], ...]


MetricValue = int | float | HistogramValue | ExponentialHistogramValue | SummaryValue | None


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One data point. value is None when the point says "no recorded value" (flag bit 0).

    attributes are sorted by key, values as in `LogRecord`. start_ns is 0 where absent.
    """

    resource: Resource
    name: str
    unit: str
    kind: MetricKind
    temporality: Temporality
    monotonic: bool
    start_ns: int
    time_ns: int
    attributes: tuple[tuple[str, str], ...]
    value: MetricValue


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a message, or `records` records of one, was not folded. detail: found, expected, next step; no payload."""

    reason: RejectReason
    detail: str
    records: int = 0
