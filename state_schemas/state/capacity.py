"""State of the cardinality alert."""

from typing import Final

import msgspec

from state_schemas.aggregates.names import NameOverflow
from state_schemas.codec import Codec, register


class CapacityState(msgspec.Struct, array_like=True, gc=False):
    """windows: window start -> overflow, not yet final. last_final_ms: start of the newest final one, or 0."""

    windows: dict[int, NameOverflow] = msgspec.field(default_factory=dict)
    last_final_ms: int = 0


CAPACITY_CODEC: Final = register(
    Codec(
        name="capacity",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(CapacityState).decode},
    )
)
