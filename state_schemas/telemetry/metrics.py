"""Decoded metric points."""

from dataclasses import dataclass
from typing import Literal

from state_schemas.telemetry.resource import Resource

MetricKind = Literal["gauge", "sum", "histogram", "exponential_histogram", "summary"]

Temporality = Literal["unspecified", "delta", "cumulative"]


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """Explicit-bucket histogram. len(bucket_counts) == len(bounds) + 1, or both are empty. None means absent."""

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
    """Summary point with the (quantile, value) pairs that the producer computed."""

    count: int
    sum: float
    quantiles: tuple[tuple[float, float], ...]


MetricValue = int | float | HistogramValue | ExponentialHistogramValue | SummaryValue | None


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One data point."""

    resource: Resource
    name: str
    unit: str
    kind: MetricKind
    temporality: Temporality
    monotonic: bool
    # 0 where absent.
    start_ns: int
    time_ns: int
    # Sorted by key, values as in `LogRecord`.
    attributes: tuple[tuple[str, str], ...]
    # None where the point has the flag "no recorded value" (bit 0).
    value: MetricValue
