"""State of call pairing."""

from typing import Final

import msgspec

from state_schemas.aggregates.calls import CallSides
from state_schemas.codec import Codec, register


class CallPairsState(msgspec.Struct, array_like=True, gc=False):
    """held: halves that were looked at. waiting: those that came since, counted by `waiting_sides`.

    join_at_ms: when they are looked at next, None where none waits. halvings: one of 2**halvings traces is kept, all
    (0) as long as the halves fit their bound.
    """

    env: str
    bucket: int
    held: CallSides
    waiting: list[CallSides] = msgspec.field(default_factory=list)
    waiting_sides: int = 0
    join_at_ms: int | None = None
    sampling_log2: int = 0


CALL_PAIRS_CODEC: Final = register(
    Codec(
        name="call-pairs",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(CallPairsState).decode},
    )
)
