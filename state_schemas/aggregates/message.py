"""What a fold makes of one Kafka message."""

import msgspec

from state_schemas.aggregates.activity import EnvActivity
from state_schemas.aggregates.logs import LogAggregate
from state_schemas.aggregates.spans import SpanBatch
from state_schemas.telemetry.signals import SignalType


class FoldedMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a fold makes of one Kafka message. key: `topic|partition`, the key of the pre-merge.

    presence: of logs and metrics; who was heard in traces follows from the spans. signal: of the topic that it lay in.
    logs: lines by pattern, one for each service; of a message of traces, the exceptions of its spans.
    """

    key: str
    spans: SpanBatch | None
    activity: tuple[EnvActivity, ...]
    signal: SignalType
    logs: tuple[LogAggregate, ...] = ()
