"""Texts of an insight: clock times, durations, numbers, titles, and its Kafka ranges.

A title has the form `SERVICE: FINDING MEASURE (usually USUAL) since HH:MM:SS[, WHERE (SHARE %)][; trace ID]`.
"""

from datetime import UTC, datetime

from state_schemas.contracts.insight import KafkaRange
from state_schemas.telemetry.message import OffsetRange

TITLE_CHARS_MAX = 400  # limit of the contract


def kafka_ranges(ranges: tuple[OffsetRange, ...]) -> tuple[KafkaRange, ...]:
    """Return offset ranges in the form of the contract."""
    return tuple(
        KafkaRange(topic=r.topic, partition=r.partition, first_offset=r.first_offset, last_offset=r.last_offset)
        for r in ranges
    )


def clock(at_ms: int) -> str:
    """Return the time of day in UTC as HH:MM:SS."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")


def seconds(duration_ns: float) -> str:
    """Return a duration with at least two significant digits, in s from 1 s on, else in ms."""
    if duration_ns >= 1e9:
        return f"{duration_ns / 1e9:.2g} s" if duration_ns < 1e11 else f"{duration_ns / 1e9:.0f} s"
    return f"{duration_ns / 1e6:.2g} ms" if duration_ns < 1e8 else f"{duration_ns / 1e6:.0f} ms"


def elapsed(duration_ms: int) -> str:
    """Return a time without telemetry: in s under 2 min, in min under 2 h, else in h."""
    if duration_ms < 120_000:
        return f"{duration_ms / 1000:.0f} s"
    return f"{duration_ms / 60_000:.0f} min" if duration_ms < 7_200_000 else f"{duration_ms / 3_600_000:.1f} h"


def percent(share: float, decimals: int = 0) -> str:
    """Return a share, 0..1, in percent."""
    return f"{100 * share:.{decimals}f} %"


def rate(value: float) -> str:
    """Return a rate with at least two significant digits and without an exponent."""
    if value < 0.01:
        return "under 0.01"
    return f"{value:,.0f}" if value >= 9.95 else f"{value:#.2g}"


def title_of(text: str, chars_max: int = TITLE_CHARS_MAX) -> str:
    """Return the text, cut to chars_max characters with `…` as the last one."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
