"""Insight of a silence: a source that was active sends no records."""

from typing import Final, NamedTuple

from state_schemas.contracts.insight import Evidence, Insight
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo
from udfs.detect.finding import Finding
from udfs.detect.lifecycle import OPEN, Course
from udfs.detect.service_window import ServiceKey
from udfs.insights.wording import clock, elapsed, kafka_ranges

__all__ = ["EXPIRED", "RESUMED", "Silence", "report"]

RESUMED: Final = Course("closed", "records received again")
EXPIRED: Final = Course("closed", "no records for so long that none are expected")


class Silence(NamedTuple):
    """Time without records of a source. signal: its type; "" for all of them. ranges: of the window that shows it."""

    key: ServiceKey
    signal: str
    start_ms: int
    end_ms: int
    ranges: tuple[OffsetRange, ...]


def report(silence: Silence, course: Course) -> Insight:
    """Return the insight of a silence."""
    key, signal, start_ms, end_ms, ranges = silence
    records = signal or "telemetry"
    text = f"no {records} since {clock(start_ms)}"
    if course == RESUMED:
        text = f"{records} again after {elapsed(end_ms - start_ms)} without, since {clock(end_ms)}"
    elif course == EXPIRED:
        text += ", no longer expected"
    usual = f"{records} of {key.name.name or 'this environment'}, last seen before {clock(start_ms)}"
    return Finding(
        kind="telemetry_gap",
        subject=signal,
        start_ms=start_ms,
        end_ms=end_ms,
        severity="warning" if course == OPEN else "info",
        confidence=0.9,
        text=text,
        measures={"silence_s": (end_ms - start_ms) / 1000},
        evidence=Evidence(kafka=kafka_ranges(ranges), expected=usual),
        info=ServiceInfo(),
    ).candidate(key, course)
