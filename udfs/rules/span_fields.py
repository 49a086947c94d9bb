"""Some spans of a message with their fields; attributes are decoded when the first one is asked for."""

from collections.abc import Iterator
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import SPAN_KINDS, EncodedSpans, SpanColumns
from udfs.otlp.span_attributes import AttributeReader, SpanAttributes
from udfs.rules.conditions import STATUSES, FieldValue
from udfs.rules.records import ResourceFields, is_of_resource
from udfs.rules.span_kernels import ID_BYTES, picked

__all__ = ["ATTRIBUTES", "FoundSpan", "Rows", "found_spans"]

ATTRIBUTES: Final = "attributes."
_NS_PER_MS: Final = 1_000_000
_AT_ONCE: Final = 4_096  # spans whose fields are objects at one time
Rows = NDArray[np.intp]


class _Attributes:
    """Attributes of the spans of these rows."""

    def __init__(self, encoded: EncodedSpans, rows: Rows, reader: AttributeReader) -> None:
        self._encoded, self._rows, self._reader = encoded, rows, reader

    def text(self, number: int, name: str) -> str:
        """Return an attribute of the span of rows[number], "" where it has none."""
        names = self._reader.names
        place = int(self._read.numbers[number * len(names) + names.index(name)])
        return self._read.texts[place] if place >= 0 else ""

    @cached_property
    def _read(self) -> SpanAttributes:
        count = len(self._reader.names)
        names = np.tile(np.arange(count), len(self._rows))
        return self._reader.read(self._encoded, np.repeat(self._rows, count), names)


class FoundSpan(msgspec.Struct, gc=False):
    """A span, as the fields of a signal.

    number: its place in attributes. service: with its namespace. trace_id, span_id: hex, zeros where absent.
    """

    number: int
    row: int
    resource: Resource
    service: str
    name: str
    kind: str
    status: str
    duration_ms: float
    end_ms: int
    trace_id: str
    span_id: str
    attributes: _Attributes

    def get(self, field: str, /) -> FieldValue | None:
        if is_of_resource(field):
            return ResourceFields(self.resource).get(field)
        if field.startswith(ATTRIBUTES):
            return self.attributes.text(self.number, field.removeprefix(ATTRIBUTES))
        own: FieldValue = getattr(self, field)
        return own


def found_spans(spans: SpanColumns, rows: Rows, reader: AttributeReader) -> Iterator[FoundSpan]:
    """Yield the spans of these rows. About 1 us a span."""
    for first in range(0, len(rows), _AT_ONCE):
        yield from _found(spans, rows[first : first + _AT_ONCE], reader)


def _found(spans: SpanColumns, rows: Rows, reader: AttributeReader) -> Iterator[FoundSpan]:
    values, ids = np.empty((len(rows), 7), np.int64), np.empty((len(rows), ID_BYTES), np.uint8)
    columns = (spans.resource, spans.name, spans.kind, spans.error, spans.start_ns, spans.end_ns)
    picked(rows, *columns, spans.trace_id, spans.span_id, values, ids)
    digits, attributes = ids.tobytes().hex(), _Attributes(spans.encoded, rows, reader)
    services: dict[int, str] = {}
    for number, (row, place, name, kind, error, duration_ns, end_ns) in enumerate(values.tolist()):
        resource, first = spans.resources[place], 2 * ID_BYTES * number
        service = services.get(place) or services.setdefault(place, resource.qualified_service)
        yield FoundSpan(
            number,
            row,
            resource,
            service,
            spans.names[name],
            SPAN_KINDS[kind],
            STATUSES[error],
            duration_ns / _NS_PER_MS,
            end_ns // _NS_PER_MS,
            digits[first : first + 32],
            digits[first + 32 : first + 48],
            attributes,
        )
