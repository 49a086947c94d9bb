"""Decoded spans of one message, as columns."""

from dataclasses import dataclass
from typing import Final, NamedTuple

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

ENTRY_KINDS: Final = frozenset((KIND_SERVER, KIND_CONSUMER))  # their duration is the latency of a service


@dataclass(frozen=True, slots=True)
class SpanException:
    """An event of a span with the name `exception`."""

    # Index of the span in the columns.
    span: int
    # Attributes `exception.*`, texts as in `LogRecord`, "" where absent.
    type: str
    message: str
    stacktrace: str


class EncodedSpans(NamedTuple):
    """The spans of a message as they came, for what is decoded of a few of them only; no bytes where none came."""

    # The message in protobuf.
    data: bytes = b""
    # int64 (n, 2): first byte and end of each span.
    ranges: NDArray[np.int64] = np.zeros((0, 2), np.int64)


class SpanColumns(msgspec.Struct, frozen=True):
    """The n spans of one message, one array element each, in wire order.

    The arrays belong to the receiver: a decoder never reuses their memory.
    """

    resources: tuple[Resource, ...]
    names: tuple[str, ...]
    # (n,): index into `resources`.
    resource: NDArray[np.int32]
    # (n,): index into `names`.
    name: NDArray[np.int32]
    # (n,) each.
    start_ns: NDArray[np.uint64]
    end_ns: NDArray[np.uint64]
    # (n,): OTLP enum, 0..5.
    kind: NDArray[np.uint8]
    # (n,): status code == ERROR.
    error: NDArray[np.bool_]
    # (n, 16); as in the span ids, all zero means absent or of another length.
    trace_id: NDArray[np.uint8]
    # (n, 8) each.
    span_id: NDArray[np.uint8]
    parent_span_id: NDArray[np.uint8]
    # In wire order, ascending by span; the first 8 of each span.
    exceptions: tuple[SpanException, ...] = ()
    # Number of further exceptions of all spans.
    exceptions_beyond: int = 0
    # Number of texts (names, resource attributes, exceptions) that were not UTF-8; what was invalid in them is U+FFFD.
    texts_repaired: int = 0
    encoded: EncodedSpans = EncodedSpans()
