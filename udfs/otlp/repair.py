"""Repair of texts that are not UTF-8: what is invalid becomes U+FFFD, so that it costs its text and not its message.

Protobuf and JSON require UTF-8, and a parser refuses the whole message for one byte of another encoding. A producer of
Latin-1 is often one of many in the batch of a Collector.
"""

from typing import Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor  # type: ignore[import-untyped]  # no py.typed

from udfs.linear import Match, expression
from udfs.otlp.wire_format import BYTES, Field, fields_of, varint_bytes

__all__ = ["Repaired", "repair_json", "repair_protobuf"]

# upb parses messages in so many others; deeper ones stay as they are.
_LEVELS_MAX: Final = 100
# A string of JSON, with its quotes; also one that is not closed, to the end of the data.
_STRING: Final = expression(rb'"(?:[^"\\]|\\.|\\\n)*"?')
# Escapes of UTF-16: a pair, or a half that has no other half.
_ESCAPE: Final = expression(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\."
)
_HALF_BYTES: Final = 6


class Repaired(NamedTuple):
    """Data with texts that are UTF-8. texts: number of texts that were not."""

    data: bytes
    texts: int


def repair_protobuf(data: bytes, message: Descriptor) -> Repaired:
    """Repair the texts of a message of this type, and of those inside it. All other bytes stay, broken ones too.

    O(bytes), some 1.5 us a field; no more memory than the message takes once more.
    """
    out: list[bytes | memoryview] = []
    texts, _ = _repair(memoryview(data), _Place(0, len(data), message, 0), out)
    return Repaired(b"".join(out), texts) if texts else Repaired(data, 0)


class _Place(NamedTuple):
    """A message: range of its bytes, type, number of messages around it."""

    first: int
    stop: int
    message: Descriptor
    level: int


def _repair(data: memoryview, place: _Place, out: list[bytes | memoryview]) -> tuple[int, int]:
    """Append the repaired bytes of a message to out; return the number of repaired texts and the size.

    Nothing is appended where there is no such text.
    """
    texts = size = 0
    done = last = place.first
    for field in fields_of(data, place.first, place.stop):
        tag_first, last = last, field.stop
        kind = place.message.fields_by_number.get(field.number) if field.wire_type == BYTES and field.whole else None
        if kind is None:
            continue
        begin = len(out)
        tag = varint_bytes(field.number << 3 | BYTES)
        out += (data[done:tag_first], tag, b"")  # the size of the content is known when it is repaired
        found, content_size = _content(data, field, kind, place.level, out)
        if found:
            out[begin + 2] = varint_bytes(content_size)
            texts, done = texts + found, field.stop
            size += sum(map(len, out[begin : begin + 3])) + content_size
        else:
            del out[begin:]
    if texts:
        out.append(data[done : place.stop])
        size += place.stop - done
    return texts, size


def _content(
    data: memoryview, field: Field, kind: FieldDescriptor, level: int, out: list[bytes | memoryview]
) -> tuple[int, int]:
    """Append the repaired content of a field to out; return the number of repaired texts and the size."""
    if kind.type == FieldDescriptor.TYPE_MESSAGE and level < _LEVELS_MAX:
        return _repair(data, _Place(field.first, field.stop, kind.message_type, level + 1), out)
    if kind.type != FieldDescriptor.TYPE_STRING:
        return 0, 0
    found = _text(bytes(data[field.first : field.stop]))
    out.append(found.data)
    return found.texts, len(found.data)


def _text(content: bytes) -> Repaired:
    try:
        content.decode()
    except UnicodeDecodeError:
        return Repaired(content.decode(errors="replace").encode(), 1)
    return Repaired(content, 0)


def repair_json(data: bytes) -> Repaired:
    """Repair the strings of a JSON text: invalid bytes, and escapes of half a UTF-16 pair. O(bytes)."""
    texts = 0

    def string(match: Match[bytes]) -> bytes:
        nonlocal texts
        found = match[0]
        content = _ESCAPE.sub(_whole_escape, _text(found).data) if b"\\u" in found else _text(found).data
        texts += content != found
        return content

    return Repaired(_STRING.sub(string, data), texts)


def _whole_escape(match: Match[bytes]) -> bytes:
    return rb"\ufffd" if len(match[0]) == _HALF_BYTES and match[0][2:3] in b"dD" else match[0]
