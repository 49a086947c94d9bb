"""Insight v1: the contract of the topic `insight_out` and of the table `insights`. It only ever grows.

The JSON Schema is `state_schemas/contracts/insight_v1.schema.json` (made by `insight_schema()`, compared by a test).
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Final = 1

Status = Literal["open", "updated", "closed", "retracted"]
Severity = Literal["info", "warning", "critical"]
Kind = Literal[
    "latency_spike",
    "error_ratio",
    "error_pattern_new",
    "error_pattern_returned",
    "error_pattern_surge",
    "pattern_missing",
    "trace_shape_change",
    "metric_shift",
    "sequence_match",
    "sequence_missing",
    "incident",
    "telemetry_gap",
    "rule_rejected",
]
EpochMs = Annotated[int, Field(ge=0, description="milliseconds since the Unix epoch, UTC")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Window(_Part):
    """Event time that the insight speaks of: start included, end (of the newest window that spoke for it) excluded."""

    start_ms: EpochMs
    end_ms: EpochMs


class TraceExemplar(_Part):
    """A trace to open. role: why this one; of a `sample` of lines latency and operation are not known."""

    role: Literal["slowest", "median", "failing", "sample"]
    trace_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    latency_ms: float
    host: str
    operation: str


class Contribution(_Part):
    """How much of the anomaly one host, operation or callee carries.

    share: its part of the anomalous spans, 0..1. traffic_share: its part of all spans. Ranked by share. Of a pattern,
    spans are its lines, and traffic_share is 0: not known.
    """

    name: str
    share: Annotated[float, Field(ge=0, le=1)]
    traffic_share: Annotated[float, Field(ge=0, le=1)]
    spans: int


class KafkaRange(_Part):
    """Offsets to read again: both ends included."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class Evidence(_Part):
    """What supports the insight; an insight without any of it is a bug.

    Numbers of calls are of a sample of traces, and kafka holds the caller's side of them.
    """

    traces: tuple[TraceExemplar, ...] = ()
    hosts: tuple[Contribution, ...] = ()
    operations: tuple[Contribution, ...] = ()
    callees: tuple[Contribution, ...] = Field(default=(), description="services called, by their part of slow calls")
    sample_lines: tuple[str, ...] = ()
    template: str = ""
    kafka: tuple[KafkaRange, ...] = ()
    edges: tuple[str, ...] = Field(default=(), description="`caller -> callee` of the calls that carry it")
    expected: str = Field(default="", description="for an absence: what was expected, and when it was last seen")


class Cause(_Part):
    """A candidate cause of an incident with its facts."""

    service: str
    score: float
    facts_for: tuple[str, ...] = ()
    facts_against: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()


class Insight(_Part):
    """One revision. (insight_id, revision) is unique; the highest revision of an id is what holds."""

    schema_version: Literal[1] = 1
    insight_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    revision: Annotated[int, Field(ge=0)]
    status: Status
    kind: Kind
    env: str
    site_id: str = ""
    service: str = Field(description="empty where the insight is about a whole environment")
    subject: str = Field(
        description="operation, host, callee, pattern id, metric, signal type or rule id; empty for the service itself"
    )
    window: Window
    severity: Severity
    confidence: Annotated[float, Field(ge=0, le=1)]
    cold_start: bool = Field(default=False, description="the baseline is younger than its warm-up")
    title: Annotated[str, Field(max_length=400)]
    reason: str = Field(default="", description="why it was closed or retracted")
    measures: dict[str, float] = Field(description="numbers with their unit in the name")
    evidence: Evidence
    causes: tuple[Cause, ...] = ()
    container: str = ""
    image: str = ""
    version: str = ""


def to_json(insight: Insight) -> bytes:
    """Canonical JSON: fields in the model's order, no blanks; equal insights give equal bytes."""
    return insight.model_dump_json().encode()


def from_json(body: bytes) -> Insight:
    """Raises pydantic.ValidationError where the bytes are not an Insight v1."""
    return Insight.model_validate_json(body)


def insight_schema() -> dict[str, Any]:
    """JSON Schema of Insight v1."""
    return Insight.model_json_schema()


class InsightRevision(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One revision of an insight for the topic and the table. body: Insight v1 as canonical JSON bytes."""

    env: str
    service: str
    insight_id: str
    revision: int
    body: bytes
