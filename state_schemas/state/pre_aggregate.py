"""State of pre-aggregation, one for each source partition."""

from typing import Final

import msgspec

from state_schemas.aggregates.activity import ActivityWindow
from state_schemas.aggregates.logs import LogAggregate
from state_schemas.aggregates.spans import SpanBatch
from state_schemas.codec import Codec, register


class PreAggregateState(msgspec.Struct, array_like=True, gc=False):
    """spans, logs: what waits for the next flush, under the names that were let through. presence: env -> the same.

    known: env -> service -> event time when it was last seen; at most `services_max` names an environment, and
    `envs_max` environments beside `other`.
    waiting: spans, presence windows and lines
    by pattern since the last one, in spans; messages: those they came in. heard: env -> service -> the newest
    `activity_report_ms` in which it is told to have had spans, and in the last 4 bits which of the four up to it.
    """

    spans: list[SpanBatch] = msgspec.field(default_factory=list)
    activity: dict[str, list[ActivityWindow]] = msgspec.field(default_factory=dict)
    known: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    waiting: int = 0
    messages: int = 0
    logs: list[LogAggregate] = msgspec.field(default_factory=list)
    reported: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)


PRE_AGGREGATE_CODEC: Final = register(
    Codec(
        name="pre-merge",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(PreAggregateState).decode},
    )
)
