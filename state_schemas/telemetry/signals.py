"""Signal types of OpenTelemetry."""

from typing import Literal

SignalType = Literal["traces", "logs", "metrics"]
