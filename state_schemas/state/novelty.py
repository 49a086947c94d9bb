"""State of the novelty gate."""

from typing import Final

import msgspec

from state_schemas.aggregates.novelty import PatternSighting
from state_schemas.codec import Codec, register


class NoveltyState(msgspec.Struct, array_like=True, gc=False):
    """State of one pattern of an environment. Times are starts of windows in epoch ms."""

    # Service -> the first known window with the pattern.
    first_seen_ms: dict[str, int] = msgspec.field(default_factory=dict)
    # Ids of open insights that the gate let through.
    passed: dict[str, bool] = msgspec.field(default_factory=dict)
    # Service -> the first window with the pattern of each of the last LOGGED_DAYS on which it was logged, ascending.
    logged: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    # Sightings with an insight, held back until all earlier sightings have arrived.
    waiting: list[PatternSighting] = msgspec.field(default_factory=list)
    # The newest window of a sighting.
    last_seen_ms: int = 0


NOVELTY_CODEC: Final = register(
    Codec(
        name="pattern-news",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(NoveltyState).decode},
    )
)
