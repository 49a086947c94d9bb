"""Insight v1: the contract of the topic `insight_out` and of the table `insights`. It only ever grows.

Stages of the job send the same struct to each other; JSON is written once, at the sinks. `insight_schema()` makes the
JSON Schema `state_schemas/contracts/insight_v1.schema.json`; a test compares the two.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

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
    "deploy",
]
EpochMs = Annotated[int, Meta(ge=0, description="milliseconds since the Unix epoch, UTC")]
Share = Annotated[float, Meta(ge=0, le=1)]
HexId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Window(Struct, frozen=True):
    """Event time of the insight: start included, end (of the newest window that supports it) excluded."""

    start_ms: EpochMs
    end_ms: EpochMs


class TraceExemplar(Struct, frozen=True):
    """A trace to open. role: the reason for its choice; a `sample` of lines has no known latency and operation."""

    role: Literal["slowest", "median", "failing", "sample"]
    trace_id: HexId
    latency_ms: float
    host: str
    operation: str


class Contribution(Struct, frozen=True):
    """Part of the anomaly that belongs to one host, operation or callee. Contributions are ranked by share.

    share: its part of the anomalous spans, 0..1. traffic_share: its part of all spans, 0..1. In insights about a
    pattern, spans counts lines, and traffic_share is 0, which means unknown. In insights about a deploy all hosts that
    have it have one share, and the other two are 0.
    """

    name: str
    share: Share
    traffic_share: Share
    spans: int


class KafkaRange(Struct, frozen=True):
    """Offsets of the messages to read again, both ends included."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class TimelineStep(Struct, frozen=True):
    """Step of a sequence as it happened: signals of one step, the last one with its id.

    at_ms: event time of the last signal. delay_ms: since the step before. insight_id: of the insight, "" for another
    source. trace_id: a trace to open, "" where the signal has none. relations: to earlier steps, such as
    `checkout calls cart`.
    """

    step: str
    at_ms: EpochMs
    delay_ms: Annotated[int, Meta(ge=0)]
    signals: int
    service: str
    title: str
    insight_id: str = ""
    trace_id: str = ""
    relations: tuple[str, ...] = ()


class Evidence(Struct, frozen=True):
    """Evidence for the insight. An insight without any evidence is a bug.

    Calls are counted in a sample of traces, and kafka holds the offsets of the caller's spans. callees and edges name
    services with their namespace, where they have one: `namespace/name`.
    """

    traces: tuple[TraceExemplar, ...] = ()
    hosts: tuple[Contribution, ...] = ()
    operations: tuple[Contribution, ...] = ()
    callees: Annotated[tuple[Contribution, ...], Meta(description="called services, by their part of slow calls")] = ()
    sample_lines: tuple[str, ...] = ()
    template: str = ""
    kafka: tuple[KafkaRange, ...] = ()
    edges: Annotated[tuple[str, ...], Meta(description="`caller -> callee` of the anomalous calls")] = ()
    expected: Annotated[str, Meta(description="for an absence: the expected data, and when it was last seen")] = ""
    timeline: Annotated[tuple[TimelineStep, ...], Meta(description="steps of a sequence, in order")] = ()
    version_before: Annotated[
        str, Meta(description="of a deploy, or of a pattern that is new since one: what the service ran before")
    ] = ""
    image_before: Annotated[str, Meta(description="of a deploy: what the service ran before")] = ""


class Cause(Struct, frozen=True):
    """A candidate cause of an incident, with the facts for and against it."""

    service: str
    score: float
    facts_for: tuple[str, ...] = ()
    facts_against: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()


class Insight(Struct, frozen=True, kw_only=True):
    """One revision. (insight_id, revision) is unique; the highest revision of an id holds."""

    schema_version: Literal[1] = 1
    insight_id: HexId
    revision: Annotated[int, Meta(ge=0)]
    status: Status
    kind: Kind
    env: Annotated[str, Meta(description="environment; empty where the insight is about a rule of the job")]
    site_id: str = ""
    namespace: Annotated[str, Meta(description="service.namespace; empty where the service has none")] = ""
    service: Annotated[str, Meta(description="service.name; empty where the insight is about a whole environment")]
    subject: Annotated[
        str,
        Meta(
            description="operation, host, callee, pattern id, metric, signal type, rule id, version or image; "
            "empty for the service itself"
        ),
    ]
    window: Window
    severity: Severity
    confidence: Share
    cold_start: Annotated[bool, Meta(description="the baseline is younger than its warm-up")] = False
    title: Annotated[str, Meta(max_length=400)]
    reason: Annotated[str, Meta(description="reason why it was closed or retracted")] = ""
    measures: Annotated[dict[str, float], Meta(description="numbers; each name contains the unit")]
    evidence: Evidence
    causes: tuple[Cause, ...] = ()
    container: str = ""
    image: str = ""
    version: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Insight).decode


def to_json(insight: Insight) -> bytes:
    """Encode as canonical JSON: fields in the order of the contract, no blanks; equal insights give equal bytes."""
    return _encode(insight)


def from_json(body: bytes) -> Insight:
    """Decode and check an insight. Raise msgspec.ValidationError where the bytes are not an Insight v1."""
    return _decode(body)


def fault_of(insight: Insight) -> str:
    """Return the first constraint of the contract that the insight breaks, or "" where it breaks none."""
    try:
        msgspec.convert(msgspec.to_builtins(insight), Insight)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def insight_schema() -> dict[str, Any]:
    """Return the JSON Schema of Insight v1."""
    schema: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Insight)))
    parts: dict[str, Any] = schema["$defs"]
    return {**parts.pop("Insight"), "$defs": parts}
