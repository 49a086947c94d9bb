"""Dead letters: rejected messages and records, with the reason. They go to the topic `insight_rejected`."""

from dataclasses import dataclass
from typing import Literal

import msgspec

# Closed list: a dead letter's `reason`, a metric label, and a line in docs/rejected.md.
RejectReason = Literal[
    "malformed_protobuf",  # not a readable OTLP export request
    "malformed_json",  # starts like JSON but is not OTLP/JSON
    "empty",  # no bytes at all (Kafka: a deleted key)
    "too_large",  # longer than `message_bytes_max`
    "too_deep",  # AnyValue nested deeper than `depth_max`
    "end_before_start",  # a span that ends before it starts
    "no_time",  # a record whose event time is 0 or missing
    "future",  # event time beyond the Kafka timestamp + `future_max_ms`
    "too_old",  # event time older than the Kafka timestamp - `age_max_ms`
    "invalid_insight",  # an insight of this job that breaks its contract: a fault of the job, kept and counted
    "duplicate_span",  # the same (trace id, span id) twice within one message
]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Reason why a message, or some of its records, were not folded."""

    reason: RejectReason
    # The found value, the expected value, the next step; no payload.
    detail: str
    # Number of rejected records, 0 for a whole message.
    records: int = 0


class DeadLetter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message that could not be folded, or of which some records could not, with the reason."""

    reason: str
    detail: str
    records: int
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    length_bytes: int
    sha256: str
    # The bytes of the message where the setting keeps them, else b"".
    payload: bytes = b""
