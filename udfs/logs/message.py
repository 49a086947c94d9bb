"""Fold of the lines of one Kafka message: they are counted by pattern for each service and window."""

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple
from zlib import crc32

from state_schemas.aggregates.logs import LineSample, LogAggregate, LogTable, PatternCount
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition, OffsetRange
from state_schemas.telemetry.resource import Resource
from udfs.event_time import Place
from udfs.logs.reader import ReadLine
from udfs.logs.template import merge_texts
from udfs.logs.window import SAMPLES_MAX, merge_log_aggregates
from udfs.service_info import info_of

__all__ = ["PlacedLine", "fold_lines"]


class PlacedLine(NamedTuple):
    """A log record, its place in event time and its line."""

    record: LogRecord
    place: Place
    read: ReadLine


def fold_lines(lines: Iterable[PlacedLine], at: KafkaPosition) -> tuple[LogAggregate, ...]:
    """Count the lines: return one aggregate for each service, in key order. O(lines)."""
    groups: dict[tuple[Resource, int, bool, bool, str], list[PlacedLine]] = {}
    for line in lines:
        record, place, read = line
        key = (record.resource, place.start_ms, place.late, read.severe, read.pattern.pattern_id)
        groups.setdefault(key, []).append(line)
    ranges = (at.range,)
    return tuple(merge_log_aggregates(_aggregate(members, at, ranges) for members in groups.values()))


def _aggregate(lines: list[PlacedLine], at: KafkaPosition, ranges: tuple[OffsetRange, ...]) -> LogAggregate:
    """Return the aggregate of lines of one pattern, from one resource and window, either severe ones or others."""
    (record, place, read), count = lines[0], len(lines)
    resource, severe = record.resource, read.severe
    counted = PatternCount(
        severe=severe,
        pattern_id=read.pattern.pattern_id,
        count=count,
        severity=max(line.read.severity for line in lines),
        texts=reduce(merge_texts, {line.read.pattern.texts for line in lines}),
        hosts=((resource.host, count),) if severe else (),
        samples=tuple(sorted(_sample(line, at) for line in lines)[:SAMPLES_MAX]) if severe else (),
        versions=(resource.version,) if severe else (),
    )
    info = info_of(resource, max(line.place.at_ms for line in lines))
    table = LogTable((counted,), count if severe else 0, info, ranges)
    return LogAggregate(resource.env, resource.qualified_service, ((place.start_ms, place.late, table),))


def _sample(line: PlacedLine, at: KafkaPosition) -> LineSample:
    """Return a sample. Lines of one trace get one rank, so samples of several patterns tend to share their traces."""
    trace_id = line.record.trace_id
    name = trace_id or f"{at.topic}|{at.partition}|{at.offset}|{line.place.number}"
    return LineSample(crc32(name.encode()), trace_id, line.record.resource.host, line.read.line)
