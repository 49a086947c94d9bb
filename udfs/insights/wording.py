"""Words of an insight: clock times, durations, titles, Kafka ranges."""

from datetime import UTC, datetime

from state_schemas.contracts.insight import KafkaRange
from state_schemas.telemetry.message import OffsetRange

TITLE_CHARS_MAX = 400


def kafka_ranges(ranges: tuple[OffsetRange, ...]) -> tuple[KafkaRange, ...]:
    """Offset ranges in the form of the contract."""
    return tuple(
        KafkaRange(topic=r.topic, partition=r.partition, first_offset=r.first_offset, last_offset=r.last_offset)
        for r in ranges
    )


def clock(at_ms: int) -> str:
    """Time of day in UTC, as titles say it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")


def seconds(duration_ns: float) -> str:
    """A duration with two significant digits and the unit a person would choose."""
    if duration_ns >= 1e9:
        return f"{duration_ns / 1e9:.2g} s" if duration_ns < 1e11 else f"{duration_ns / 1e9:.0f} s"
    return f"{duration_ns / 1e6:.2g} ms" if duration_ns < 1e8 else f"{duration_ns / 1e6:.0f} ms"


def title_of(text: str, chars_max: int = TITLE_CHARS_MAX) -> str:
    """The text as far as there is room for it, which for a title is what the contract has."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
