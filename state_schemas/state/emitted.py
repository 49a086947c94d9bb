"""What was emitted of an insight."""

import msgspec


class EmittedInsight(msgspec.Struct, array_like=True, gc=False):
    """What went out of one insight. sent: Insight JSON of the last revision.

    settled: JSON as of the last *final* window that announced it, b"" before there is one. closed: that JSON is closed.
    until_ms: end of the last window that announced it.
    """

    revision: int
    sent: bytes
    until_ms: int
    final_body: bytes = b""
    closed: bool = False
