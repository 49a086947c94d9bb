"""State of call pairing."""

from typing import Final

import msgspec

from state_schemas.aggregates.calls import CallSides
from state_schemas.codec import packed


class CallPairsState(msgspec.Struct, array_like=True, gc=False):
    """Call sides of one environment and bucket of trace ids."""

    env: str
    bucket: int
    # Call sides after the last join; the unpaired ones may still find their other side.
    held: CallSides
    # Call sides that arrived since the last join; waiting_sides is their number.
    waiting: list[CallSides] = msgspec.field(default_factory=list)
    waiting_sides: int = 0
    # Event time of the next join, None where no call side waits.
    join_at_ms: int | None = None
    # One of 2**sampling_log2 traces is kept; 0 keeps all, as long as the call sides fit their limit.
    sampling_log2: int = 0


CALL_PAIRS_CODEC: Final = packed("call-pairs", CallPairsState)
