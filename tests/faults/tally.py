"""A machine and a sink that the shipped job does not have, as a later release may add them."""

from collections.abc import Sequence
from typing import Any

import msgspec

from jobs.graph import BY_SERVICE
from jobs.sinks import Insert, topic_table
from operators.machine import END_OF_INPUT, Stage, Step
from operators.runtime.routing import SinkRows
from state_schemas.aggregates.spans import SpanAggregate
from state_schemas.codec import Codec, register
from udfs.insights.ids import service_key
from udfs.spans.window import span_count


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """Number of spans of a service in one event."""

    key: str
    spans: int


CODEC: Codec[int] = register(Codec("test-tally", 1, msgspec.msgpack.encode, {1: msgspec.msgpack.decode}))


class SpanTally:
    """Machine that emits the number of spans of each event; the sum over its outputs is every span that it received."""

    takes = (SpanAggregate,)
    gives = (Tally,)

    @property
    def codec(self) -> Codec[int]:
        return CODEC

    def initial(self, key: str) -> int:
        return 0

    def on_event(self, state: int, event: SpanAggregate, watermark_ms: int) -> Step[int, Tally]:
        seen = sum(span_count(table) for _, _, table in event.windows)
        outputs = (Tally(service_key(event.env, event.service), seen),)
        return Step(state + seen, outputs, watermark_ms + 3_600_000)

    def on_timer(self, state: int, now_ms: int) -> Step[int, Tally]:
        return Step(None) if now_ms == END_OF_INPUT else Step(state)


def _row(tally: Tally) -> Sequence[Any]:
    return (tally.key, str(tally.spans))


STAGE = Stage("span-tally", SpanTally(), BY_SERVICE)
INSERT = Insert(
    "kafka-tallies",
    SinkRows("tallies", Tally, (("message_key", "string"), ("body", "string")), _row),
    """INSERT INTO tallies_topic
       SELECT message_key, body, MAP['content-type', ENCODE('text/plain', 'UTF-8')] FROM {view}""",
    topic_table("tallies_topic", lambda config: f"{config.name}-tallies"),
)
