"""Refusal of a message that cannot be decoded."""

from state_schemas.contracts.dead_letter import RejectReason

__all__ = ["Refused"]


class Refused(Exception):
    """A message that is rejected. Caught by `udfs.otlp.decoder`.

    found: what was found, without payload; "" where the reason says it.
    """

    def __init__(self, reason: RejectReason, found: str = "") -> None:
        super().__init__(reason, found)
        self.reason = reason
        self.found = found
