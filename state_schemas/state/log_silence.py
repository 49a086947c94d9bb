"""State of the log silence gate."""

from typing import Final

import msgspec

from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.codec import Codec, register


class LogSilenceState(msgspec.Struct, array_like=True, gc=False):
    """windows: starts of those with any line. waiting: not to be judged yet. told: of open insights, by id."""

    windows: dict[int, bool] = msgspec.field(default_factory=dict)
    waiting: list[LoggingWindows] = msgspec.field(default_factory=list)
    passed: dict[str, bool] = msgspec.field(default_factory=dict)
    last_seen_ms: int = 0


LOG_SILENCE_CODEC: Final = register(
    Codec(
        name="log-silence",
        version=1,
        write=msgspec.msgpack.Encoder().encode,
        readers={1: msgspec.msgpack.Decoder(LogSilenceState).decode},
    )
)
