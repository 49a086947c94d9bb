"""Sides of calls on their way to each other: a client span in one message, its server span in another."""

from typing import Final

import msgspec
import numpy as np

# Half of a call: a client span (parent 0), or the server span under it. high, low: the trace id; span, parent: span ids
# (all big-endian words). place: of the span in the batch.
CALL_SIDE_DTYPE: Final = np.dtype(
    [
        *(("high", "<u8"), ("low", "<u8"), ("span", "<u8"), ("parent", "<u8")),
        *(("end_ns", "<i8"), ("duration_ns", "<i8"), ("place", "<u4")),
    ]
)

# A half that names its service, host and operation by place. error: of the span. paired: 1 for both halves of a call
# that has been counted. sent_ms: Kafka timestamp of its message.
NAMED_SIDE_DTYPE: Final = np.dtype(
    [
        *((name, CALL_SIDE_DTYPE[name]) for name in ("high", "low", "span", "parent", "end_ns", "duration_ns")),
        *(("sent_ms", "<i8"), ("service", "<u4"), ("host", "<u4"), ("operation", "<u4")),
        *(("error", "u1"), ("paired", "u1")),
    ]
)


class CallSides(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """n halves of one environment whose trace ids fall into one bucket. halves: n of `NAMED_SIDE_DTYPE`; names
    distinct.
    """

    env: str
    bucket: int
    services: tuple[str, ...]
    hosts: tuple[str, ...]
    operations: tuple[str, ...]
    sides: bytes
