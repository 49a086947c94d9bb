"""Decoded log records."""

from dataclasses import dataclass

from state_schemas.telemetry.resource import Resource


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log record. time_ns is `time_unix_nano`, or `observed_time_unix_nano` where that is 0.

    body: the string body; structured bodies as canonical JSON (sorted keys), bytes as lower-case hex.
    attributes: strings as they are, other scalars as JSON text. trace_id, span_id: lower-case hex or "".
    """

    resource: Resource
    time_ns: int
    severity_number: int
    severity_text: str
    body: str
    event_name: str
    attributes: tuple[tuple[str, str], ...]
    trace_id: str
    span_id: str
