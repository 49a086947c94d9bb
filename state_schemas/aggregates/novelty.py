"""Sightings of patterns: they give the novelty gate the services that have a pattern, and since when."""

import msgspec

from state_schemas.aggregates.logs import LineSource
from state_schemas.contracts.insight import Insight


class PatternSighting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A severe pattern that a service has, with or without an insight about it. Input of the NoveltyGate machine."""

    env: str
    pattern_id: str
    service: str
    # Start of the first window with the pattern, or of a newer one.
    seen_ms: int
    source: LineSource
    # Revision of an insight that begins at seen_ms: of logs an `error_pattern_new`, of spans an insight of any kind.
    # None for a sighting that only states that the service has the pattern.
    revision: Insight | None = None


class LogPatternSighting(PatternSighting, frozen=True, array_like=True, gc=False):
    """Sighting of a pattern in log records."""


class SpanPatternSighting(PatternSighting, frozen=True, array_like=True, gc=False):
    """Sighting of a pattern in exceptions that spans recorded."""
