"""Spans of one message, as columns."""

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.telemetry.resource import Resource

# Names of span kinds by their OTLP enum value; unknown values are read as 0.
SPAN_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")

KIND_INTERNAL: Final = 1

KIND_SERVER: Final = 2

KIND_CLIENT: Final = 3

KIND_CONSUMER: Final = 5

ENTRY_KINDS: Final = frozenset((KIND_SERVER, KIND_CONSUMER))  # what a service answers: its latency is their duration


@dataclass(frozen=True, slots=True)
class SpanException:
    """An event named `exception` of a span. span: its place in the columns. time_ns: of the event, unchecked.

    type, message, stacktrace: attributes `exception.*`, texts as in `LogRecord`, "" where absent.
    """

    span: int
    time_ns: int
    type: str
    message: str
    stacktrace: str


class SpanColumns(msgspec.Struct, frozen=True):
    """The n spans of one message, one array element each, in wire order.

    resource: int32 (n,), index into `resources`. name: int32 (n,), index into `names`.
    start_ns, end_ns: uint64 (n,). kind: uint8 (n,), 0..5. error: bool (n,), status code == ERROR.
    trace_id: uint8 (n, 16). span_id, parent_span_id: uint8 (n, 8); all zero means absent or of another length.
    The arrays belong to the receiver: a decoder never reuses their memory.
    exceptions: in wire order, ascending by span; of one span the first 8.
    exceptions_beyond: further ones of all spans, only counted.
    """

    resources: tuple[Resource, ...]
    names: tuple[str, ...]
    resource: NDArray[np.int32]
    name: NDArray[np.int32]
    start_ns: NDArray[np.uint64]
    end_ns: NDArray[np.uint64]
    kind: NDArray[np.uint8]
    error: NDArray[np.bool_]
    trace_id: NDArray[np.uint8]
    span_id: NDArray[np.uint8]
    parent_span_id: NDArray[np.uint8]
    exceptions: tuple[SpanException, ...] = ()
    exceptions_beyond: int = 0
