"""Signal types of OpenTelemetry."""

from typing import Final, Literal, get_args

SignalType = Literal["traces", "logs", "metrics"]
SIGNALS: Final[tuple[SignalType, ...]] = get_args(SignalType)
