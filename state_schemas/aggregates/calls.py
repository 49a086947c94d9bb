"""Call sides that wait to be paired: the client span is in one message, its server span in another."""

from typing import Final

import msgspec
import numpy as np

# One call side: a client span (parent 0), or the server span under it. high, low: the trace id; span, parent: span ids
# (all read as big-endian words). service, host, operation: indices into names. error: 1 where the span has status
# ERROR. paired: 1 for both sides of a call that has been counted. sent_ms: Kafka timestamp of its message.
CALL_SIDE_DTYPE: Final = np.dtype(
    [
        *(("high", "<u8"), ("low", "<u8"), ("span", "<u8"), ("parent", "<u8")),
        *(("end_ns", "<i8"), ("duration_ns", "<i8"), ("sent_ms", "<i8")),
        *(("service", "<u4"), ("host", "<u4"), ("operation", "<u4"), ("error", "u1"), ("paired", "u1")),
    ]
)


class CallSides(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The n call sides of one environment whose trace ids fall into one bucket."""

    env: str
    bucket: int
    # Names to which the sides refer by index, each tuple distinct.
    services: tuple[str, ...]
    hosts: tuple[str, ...]
    operations: tuple[str, ...]
    # An array of n `CALL_SIDE_DTYPE`.
    sides: bytes
