"""Decoded log records."""

from dataclasses import dataclass

from state_schemas.telemetry.resource import Resource


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log record."""

    resource: Resource
    # `time_unix_nano`, or `observed_time_unix_nano` where that is 0.
    time_ns: int
    severity_number: int
    severity_text: str
    # A string body as it is, a structured body as canonical JSON (sorted keys), bytes as lower-case hex.
    body: str
    event_name: str
    # Strings as they are, other scalars as JSON text.
    attributes: tuple[tuple[str, str], ...]
    # Lower-case hex or "".
    trace_id: str
