"""Merge of activity and of offset ranges."""

from collections.abc import Iterable
from typing import Final

from state_schemas.aggregates.activity import Activity, ActivityWindow
from state_schemas.telemetry.message import OffsetRange

RANGES_MAX: Final = 64  # partitions in the evidence of one window; further ones, in ascending order, are dropped


def merge_ranges(ranges: Iterable[OffsetRange]) -> tuple[OffsetRange, ...]:
    """Return one range for each partition, ascending."""
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    for part in ranges:
        first, last = spans.get((part.topic, part.partition), (part.first_offset, part.last_offset))
        spans[part.topic, part.partition] = (min(first, part.first_offset), max(last, part.last_offset))
    return tuple(OffsetRange(*place, *spans[place]) for place in sorted(spans)[:RANGES_MAX])


def merge_activity(windows: Iterable[ActivityWindow]) -> tuple[ActivityWindow, ...]:
    """Return one entry for each window, ascending, with records summed by (signal, service) and ranges merged."""
    records: dict[int, dict[tuple[str, str], int]] = {}
    ranges: dict[int, list[OffsetRange]] = {}
    for window in windows:
        sums = records.setdefault(window.start_ms, {})
        ranges.setdefault(window.start_ms, []).extend(window.ranges)
        for active in window.seen:
            source = (active.signal, active.service)
            sums[source] = sums.get(source, 0) + active.records
    return tuple(
        ActivityWindow(
            start_ms,
            tuple(Activity(*source, records[start_ms][source]) for source in sorted(records[start_ms])),
            merge_ranges(ranges[start_ms]),
        )
        for start_ms in sorted(records)
    )
