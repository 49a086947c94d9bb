"""Windows in which an environment logged."""

import msgspec

from state_schemas.contracts.insight import Insight


class LoggingWindows(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Somebody of an environment logged in these windows; or an insight about lines that are missed. Drives LogSilence.

    windows: starts, epoch ms. until_ms: end of the insight's newest window, 0 without one.
    """

    env: str
    windows: tuple[int, ...] = ()
    until_ms: int = 0
    revision: Insight | None = None
