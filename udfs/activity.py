"""Merging of activity and offset ranges."""

from collections.abc import Iterable
from typing import Final

from state_schemas.aggregates.activity import Activity, ActivityWindow
from state_schemas.telemetry.message import OffsetRange

RANGES_MAX: Final = 64  # partitions named in the evidence of one window; more are merged away from the end


def merge_ranges(ranges: Iterable[OffsetRange]) -> tuple[OffsetRange, ...]:
    """One range for each partition, ascending."""
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    for part in ranges:
        first, last = spans.get((part.topic, part.partition), (part.first_offset, part.last_offset))
        spans[part.topic, part.partition] = (min(first, part.first_offset), max(last, part.last_offset))
    return tuple(OffsetRange(*place, *spans[place]) for place in sorted(spans)[:RANGES_MAX])


def merge_activity(windows: Iterable[ActivityWindow]) -> tuple[ActivityWindow, ...]:
    """One entry for each window, ascending, with records summed by (signal, service) and ranges joined."""
    records: dict[int, dict[tuple[str, str], int]] = {}
    ranges: dict[int, list[OffsetRange]] = {}
    for window in windows:
        sums = records.setdefault(window.start_ms, {})
        ranges.setdefault(window.start_ms, []).extend(window.ranges)
        for active in window.seen:
            who = (active.signal, active.service)
            sums[who] = sums.get(who, 0) + active.records
    return tuple(
        ActivityWindow(
            start_ms,
            tuple(Activity(*who, records[start_ms][who]) for who in sorted(records[start_ms])),
            merge_ranges(ranges[start_ms]),
        )
        for start_ms in sorted(records)
    )
