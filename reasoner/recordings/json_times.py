"""Newest event time of a request in OTLP/JSON, without decoding anything else: a tenth of the cost of a decoder."""

from collections.abc import Iterator

import msgspec

_NS_MAX = 2**63


class _Record(msgspec.Struct, rename="camel", gc=False):
    """A span, a log record or a metric point."""

    end_time_unix_nano: int | str = 0
    time_unix_nano: int | str = 0
    observed_time_unix_nano: int | str = 0


class _Points(msgspec.Struct, rename="camel"):
    data_points: list[_Record] = []


class _Metric(msgspec.Struct, rename="camel"):
    gauge: _Points | None = None
    sum: _Points | None = None
    histogram: _Points | None = None
    exponential_histogram: _Points | None = None
    summary: _Points | None = None


class _Scope(msgspec.Struct, rename="camel"):
    spans: list[_Record] = []
    log_records: list[_Record] = []
    metrics: list[_Metric] = []


class _Resource(msgspec.Struct, rename="camel"):
    scope_spans: list[_Scope] = []
    scope_logs: list[_Scope] = []
    scope_metrics: list[_Scope] = []


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_Resource] = []
    resource_logs: list[_Resource] = []
    resource_metrics: list[_Resource] = []


_decode = msgspec.json.Decoder(_Request).decode


def newest_ns(value: bytes) -> int | None:
    """Return the newest event time in epoch ns, 0 without a time; None where only a decoder can judge the request."""
    try:
        newest = max(map(_time_ns, _records(_decode(value))), default=0)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return newest if 0 <= newest < _NS_MAX else None


def _records(request: _Request) -> Iterator[_Record]:
    for resource in (*request.resource_spans, *request.resource_logs, *request.resource_metrics):
        for scope in (*resource.scope_spans, *resource.scope_logs, *resource.scope_metrics):
            yield from scope.spans
            yield from scope.log_records
            for metric in scope.metrics:
                for points in (
                    metric.gauge,
                    metric.sum,
                    metric.histogram,
                    metric.exponential_histogram,
                    metric.summary,
                ):
                    yield from points.data_points if points else ()


def _time_ns(record: _Record) -> int:
    return int(record.end_time_unix_nano) or int(record.time_unix_nano) or int(record.observed_time_unix_nano)
