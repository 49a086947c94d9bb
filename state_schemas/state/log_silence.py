"""State of the log silence gate."""

from typing import Final

import msgspec

from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.codec import Codec, register


class LogSilenceState(msgspec.Struct, array_like=True, gc=False):
    """State of an environment."""

    # Start -> True, for each recent window with a line of any service.
    windows: dict[int, bool] = msgspec.field(default_factory=dict)
    # Insights whose windows are not final yet.
    waiting: list[LoggingWindows] = msgspec.field(default_factory=list)
    # Id -> True, for each open insight that was passed on.
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
