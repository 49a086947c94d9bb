"""Decoding metric requests: all five point types, absent values, and JSON equal to protobuf."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.metrics import (
    ExponentialHistogramValue,
    HistogramValue,
    MetricPoint,
    MetricValue,
    SummaryValue,
)
from state_schemas.telemetry.resource import Resource
from tests.support.otlp_forms import otlp_json
from tests.support.otlp_strategies import attributes, resources, text, uint32, uint64
from udfs.otlp.decoder import Records, decode_metrics

doubles = st.floats(allow_nan=False)  # NaN is not equal to itself: it has a test of its own
optional_doubles = st.none() | doubles
int32 = st.integers(-(2**31), 2**31 - 1)
common: dict[str, Any] = {
    "attributes": attributes,
    "start_time_unix_nano": uint64,
    "time_unix_nano": uint64,
    "flags": st.sampled_from((0, 1, 2, 3)),
}
exemplars = st.lists(st.builds(pb.Exemplar, as_double=doubles, span_id=st.binary(max_size=8)), max_size=1)
buckets = st.builds(pb.ExponentialHistogramDataPoint.Buckets, offset=int32, bucket_counts=st.lists(uint64, max_size=4))
numbers = st.lists(
    st.builds(pb.NumberDataPoint, **common, exemplars=exemplars)
    | st.builds(pb.NumberDataPoint, **common, as_double=doubles)
    | st.builds(pb.NumberDataPoint, **common, as_int=st.integers(-(2**63), 2**63 - 1)),
    max_size=3,
)
histograms = st.lists(
    st.builds(
        pb.HistogramDataPoint,
        **common,
        count=uint64,
        sum=optional_doubles,
        bucket_counts=st.lists(uint64, max_size=4),
        explicit_bounds=st.lists(doubles, max_size=3, unique=True).map(sorted),
        min=optional_doubles,
        max=optional_doubles,
    ),
    max_size=3,
)
exponentials = st.lists(
    st.builds(
        pb.ExponentialHistogramDataPoint,
        **common,
        count=uint64,
        sum=optional_doubles,
        scale=int32,
        zero_count=uint64,
        positive=st.none() | buckets,
        negative=st.none() | buckets,
        min=optional_doubles,
        max=optional_doubles,
        zero_threshold=doubles,
    ),
    max_size=2,
)
summaries = st.lists(
    st.builds(
        pb.SummaryDataPoint,
        **common,
        count=uint64,
        sum=doubles,
        quantile_values=st.lists(
            st.builds(pb.SummaryDataPoint.ValueAtQuantile, quantile=doubles, value=doubles), max_size=2
        ),
    ),
    max_size=2,
)
temporalities = st.integers(0, 3)
metrics = st.one_of(
    st.builds(pb.Metric, name=text),
    st.builds(pb.Metric, name=text, unit=text, gauge=st.builds(pb.Gauge, data_points=numbers)),
    st.builds(
        pb.Metric,
        name=text,
        sum=st.builds(pb.Sum, data_points=numbers, aggregation_temporality=temporalities, is_monotonic=st.booleans()),
    ),
    st.builds(
        pb.Metric,
        name=text,
        histogram=st.builds(pb.Histogram, data_points=histograms, aggregation_temporality=temporalities),
    ),
    st.builds(
        pb.Metric,
        name=text,
        exponential_histogram=st.builds(
            pb.ExponentialHistogram, data_points=exponentials, aggregation_temporality=temporalities
        ),
    ),
    st.builds(pb.Metric, name=text, summary=st.builds(pb.Summary, data_points=summaries)),
)
requests = st.builds(
    ExportMetricsServiceRequest,
    resource_metrics=st.lists(
        st.builds(
            pb.ResourceMetrics,
            resource=st.none() | resources,
            scope_metrics=st.lists(st.builds(pb.ScopeMetrics, metrics=st.lists(metrics, max_size=3)), max_size=2),
        ),
        min_size=1,
        max_size=2,
    ),
)


def request_with(metric: pb.Metric) -> ExportMetricsServiceRequest:
    return ExportMetricsServiceRequest(
        resource_metrics=[pb.ResourceMetrics(scope_metrics=[pb.ScopeMetrics(metrics=[metric])])]
    )


def decoded(data: bytes) -> tuple[MetricPoint, ...]:
    found = decode_metrics(data)
    assert isinstance(found, Records), found
    return found.records


def value_of(metric: pb.Metric) -> MetricValue:
    """Decode the only point of a metric, from both forms."""
    request = request_with(metric)
    (from_proto,), (from_json,) = decoded(request.SerializeToString()), decoded(otlp_json(request))
    assert from_proto == from_json
    return from_proto.value


def test_a_sum_is_decoded_field_by_field() -> None:
    metric = pb.Metric(name="http.requests", unit="{request}")
    metric.sum.aggregation_temporality = pb.AGGREGATION_TEMPORALITY_DELTA
    metric.sum.is_monotonic = True
    point = metric.sum.data_points.add(start_time_unix_nano=1, time_unix_nano=2, as_int=-5)
    point.attributes.add(key="http.method").value.string_value = "GET"
    point.attributes.add(key="a").value.int_value = 1
    expected = MetricPoint(
        resource=Resource("default", "unknown_service", "unknown_host"),
        name="http.requests",
        unit="{request}",
        kind="sum",
        temporality="delta",
        monotonic=True,
        start_ns=1,
        time_ns=2,
        attributes=(("a", "1"), ("http.method", "GET")),
        value=-5,
    )
    assert decoded(request_with(metric).SerializeToString()) == (expected,)
    assert decoded(otlp_json(request_with(metric))) == (expected,)


def test_a_gauge_keeps_integers_and_floats_apart() -> None:
    for point, expected in ((pb.NumberDataPoint(as_int=3), int), (pb.NumberDataPoint(as_double=3), float)):
        value = value_of(pb.Metric(gauge=pb.Gauge(data_points=[point])))
        assert (value, type(value)) == (3, expected)


def test_a_histogram_is_decoded() -> None:
    point = pb.HistogramDataPoint(count=6, sum=2.5, bucket_counts=[1, 2, 3], explicit_bounds=[0.1, 1], min=0.05, max=2)
    value = value_of(pb.Metric(histogram=pb.Histogram(data_points=[point])))
    assert value == HistogramValue(6, 2.5, (0.1, 1.0), (1, 2, 3), 0.05, 2.0)


def test_absent_sum_min_and_max_are_none_and_zero_is_zero() -> None:
    absent = value_of(pb.Metric(histogram=pb.Histogram(data_points=[pb.HistogramDataPoint(count=1)])))
    zero = pb.HistogramDataPoint(count=1, sum=0, min=0, max=0)
    assert absent == HistogramValue(1, None, (), (), None, None)
    assert value_of(pb.Metric(histogram=pb.Histogram(data_points=[zero]))) == HistogramValue(1, 0.0, (), (), 0.0, 0.0)


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        ([1.0], [1]),
        ([1.0], []),
        ([], [1, 2]),
        ([2.0, 1.0], [1, 1, 1]),
        ([1.0, 1.0], [1, 1, 1]),
        ([float("nan")], [1, 1]),
    ],
)
def test_buckets_that_contradict_their_bounds_are_left_out_and_the_rest_stays(
    bounds: list[float], counts: list[int]
) -> None:
    point = pb.HistogramDataPoint(count=3, sum=4, explicit_bounds=bounds, bucket_counts=counts)
    value = value_of(pb.Metric(histogram=pb.Histogram(data_points=[point])))
    assert value == HistogramValue(3, 4.0, (), (), None, None)


def test_a_histogram_of_one_bucket_is_complete() -> None:
    point = pb.HistogramDataPoint(count=3, bucket_counts=[3])
    value = value_of(pb.Metric(histogram=pb.Histogram(data_points=[point])))
    assert value == HistogramValue(3, None, (), (3,), None, None)


def test_an_exponential_histogram_is_decoded() -> None:
    point = pb.ExponentialHistogramDataPoint(count=9, sum=1.5, scale=-3, zero_count=2, zero_threshold=0.25, max=7)
    point.positive.offset, point.negative.offset = -4, 5
    point.positive.bucket_counts.extend([1, 2])
    point.negative.bucket_counts.append(4)
    value = value_of(pb.Metric(exponential_histogram=pb.ExponentialHistogram(data_points=[point])))
    assert value == ExponentialHistogramValue(9, 1.5, -3, 2, 0.25, -4, (1, 2), 5, (4,), None, 7.0)


def test_a_summary_is_decoded() -> None:
    point = pb.SummaryDataPoint(count=2, sum=3)
    point.quantile_values.add(quantile=0.5, value=1.5)
    point.quantile_values.add(quantile=1, value=2)
    assert value_of(pb.Metric(summary=pb.Summary(data_points=[point]))) == SummaryValue(
        2, 3.0, ((0.5, 1.5), (1.0, 2.0))
    )


def test_a_point_flagged_as_without_recorded_value_has_none() -> None:
    assert value_of(pb.Metric(gauge=pb.Gauge(data_points=[pb.NumberDataPoint(as_int=3, flags=1)]))) is None
    assert value_of(pb.Metric(gauge=pb.Gauge(data_points=[pb.NumberDataPoint(as_int=3, flags=2)]))) == 3
    assert value_of(pb.Metric(summary=pb.Summary(data_points=[pb.SummaryDataPoint(count=3, flags=3)]))) is None
    assert value_of(pb.Metric(gauge=pb.Gauge(data_points=[pb.NumberDataPoint()]))) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [(1.5, 1.5), ("1.5", 1.5), ("-2e3", -2000.0), (7, 7.0), ("Infinity", float("inf")), ("-Infinity", float("-inf"))],
)
def test_doubles_of_json_are_read_in_each_spelling(written: object, expected: float) -> None:
    (point,) = decoded(json_gauge({"asDouble": written}))
    assert point.value == expected


def test_nan_of_json_is_nan() -> None:
    (point,) = decoded(json_gauge({"asDouble": "NaN"}))
    assert isinstance(point.value, float)
    assert point.value != point.value


@pytest.mark.parametrize(
    "point",
    [{"asDouble": "1e999"}, {"asDouble": "0x10"}, {"asInt": 2**63}, {"asInt": "1.5"}, {"flags": -1}, {"asInt": [1]}],
)
def test_numbers_that_do_not_fit_are_rejected(point: dict[str, object]) -> None:
    found = decode_metrics(json_gauge(point))
    assert isinstance(found, Rejected)
    assert found.reason == "malformed_json"


def json_gauge(point: dict[str, object]) -> bytes:
    metric = {"name": "m", "gauge": {"dataPoints": [point]}}
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()


@given(requests, st.booleans())
@settings(deadline=None)
def test_json_equals_protobuf(request: ExportMetricsServiceRequest, enums_as_numbers: bool) -> None:
    assert decoded(otlp_json(request, enums_as_numbers=enums_as_numbers)) == decoded(request.SerializeToString())


@given(st.binary(max_size=64), requests, uint32)
@settings(deadline=None)
def test_no_bytes_raise(junk: bytes, request: ExportMetricsServiceRequest, position: int) -> None:
    whole, written = request.SerializeToString(), otlp_json(request)
    cut = position % len(whole)
    for data in (junk, b"{" + junk, whole[:cut] + junk + whole[cut:], written[: position % len(written)]):
        assert isinstance(decode_metrics(data), Records | Rejected)
