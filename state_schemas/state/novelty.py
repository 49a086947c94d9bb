"""State of the novelty gate."""

from typing import Final

import msgspec

from state_schemas.aggregates.novelty import PatternSighting
from state_schemas.codec import Codec, register


class NoveltyState(msgspec.Struct, array_like=True, gc=False):
    """One pattern of an environment. first_seen_ms: of the first window with it, as far as is known, by service.

    logged: by service, of the last LOGGED_DAYS on which it was logged the first window with it, ascending. told: of
    open insights, by id. waiting: what is held back until all that came before is known. last_seen_ms: of the newest
    window that was told of.
    """

    first_seen_ms: dict[str, int] = msgspec.field(default_factory=dict)
    passed: dict[str, bool] = msgspec.field(default_factory=dict)
    logged: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    waiting: list[PatternSighting] = msgspec.field(default_factory=list)
    last_seen_ms: int = 0


NOVELTY_CODEC: Final = register(
    Codec(
        name="pattern-news",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(NoveltyState).decode},
    )
)
