"""Halves of calls on their way to each other: a client span in one message, the server span under it in another."""

from typing import Final

import msgspec
import numpy as np

from state_schemas.codec import Codec, register
from state_schemas.partials import HALF_DTYPE

# A half that names its service, host and operation by place. error: of the span. paired: 1 for both halves of a call
# that has been counted. sent_ms: Kafka timestamp of its message.
HELD_DTYPE: Final = np.dtype(
    [
        *((name, HALF_DTYPE[name]) for name in ("high", "low", "span", "parent", "end_ns", "duration_ns")),
        *(("sent_ms", "<i8"), ("service", "<u4"), ("host", "<u4"), ("operation", "<u4")),
        *(("error", "u1"), ("paired", "u1")),
    ]
)


class CallHalves(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """n halves of one environment whose trace ids fall into one bucket. halves: n of `HELD_DTYPE`; names distinct."""

    env: str
    bucket: int
    services: tuple[str, ...]
    hosts: tuple[str, ...]
    operations: tuple[str, ...]
    halves: bytes


class CallPairsState(msgspec.Struct, array_like=True, gc=False):
    """held: halves that were looked at. waiting: those that came since, counted by `waiting_halves`.

    join_at_ms: when they are looked at next, None where none waits. halvings: one of 2**halvings traces is kept, all
    (0) as long as the halves fit their bound.
    """

    env: str
    bucket: int
    held: CallHalves
    waiting: list[CallHalves] = msgspec.field(default_factory=list)
    waiting_halves: int = 0
    join_at_ms: int | None = None
    halvings: int = 0


CALL_PAIRS_CODEC: Final = register(
    Codec(
        name="call-pairs",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(CallPairsState).decode},
    )
)
