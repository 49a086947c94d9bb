"""Windows in which an environment logged."""

import msgspec

from state_schemas.contracts.insight import Insight


class LoggingWindows(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Windows in which a service of an environment logged, or an insight about missing lines. Drives LogSilence."""

    env: str
    # Window starts in epoch ms.
    windows: tuple[int, ...] = ()
    revision: Insight | None = None
