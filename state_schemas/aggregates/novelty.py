"""Sightings of patterns, which tell the novelty gate who has which pattern since when."""

import msgspec

from state_schemas.aggregates.logs import (
    LineSource,
)
from state_schemas.contracts.insight import Insight


class PatternSighting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A service says of a loud pattern that it has it, or that it is new there. What drives the NoveltyGate machine.

    seen_ms: start of the first window with it, or of a newer one. revision: of an insight that begins then, about so
    many
    lines: `error_pattern_new`, of spans any; None where nothing is said but that it is there.
    """

    env: str
    pattern_id: str
    service: str
    seen_ms: int
    source: LineSource
    lines: int = 0
    revision: Insight | None = None


class LogPatternSighting(PatternSighting, frozen=True, array_like=True, gc=False):
    """Of lines that are logged."""


class SpanPatternSighting(PatternSighting, frozen=True, array_like=True, gc=False):
    """Of exceptions that spans recorded."""
