"""What was emitted of an insight."""

import msgspec


class Announced(msgspec.Struct, array_like=True, gc=False):
    """What went out of one insight. sent: Insight JSON of the last revision.

    settled: JSON as of the last *final* pane that announced it, b"" before there is one. closed: that JSON is closed.
    until_ms: end of the last pane that announced it.
    """

    revision: int
    sent: bytes
    until_ms: int
    settled: bytes = b""
    closed: bool = False
