"""State of the gates."""

from typing import Final

import msgspec

from state_schemas.codec import packed
from state_schemas.contracts.insight import Insight


class GateState(msgspec.Struct, array_like=True, gc=False):
    """State of any gate."""

    # Revisions that are held back until all earlier events of the environment have arrived.
    waiting: list[Insight] = msgspec.field(default_factory=list)
    # Id -> True, for each open insight that was passed on.
    passed: dict[str, bool] = msgspec.field(default_factory=dict)
    # Newest time of an event.
    last_seen_ms: int = 0


class NoveltyState(GateState, array_like=True, gc=False):
    """State of one pattern of an environment. Times are starts of windows in epoch ms."""

    # Service -> the first known window with the pattern.
    first_seen_ms: dict[str, int] = msgspec.field(default_factory=dict)
    # Service -> the first window with the pattern of each of the last LOGGED_DAYS on which it was logged, ascending.
    logged: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)


class LogSilenceState(GateState, array_like=True, gc=False):
    """State of an environment."""

    # Start -> True, for each recent window with a line of any service.
    windows: dict[int, bool] = msgspec.field(default_factory=dict)


NOVELTY_CODEC: Final = packed("novelty", NoveltyState)
LOG_SILENCE_CODEC: Final = packed("log-silence", LogSilenceState)
