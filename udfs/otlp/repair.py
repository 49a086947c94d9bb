"""Repair of texts that are not UTF-8: each invalid byte becomes U+FFFD, so that it costs its text and not its message.

Protobuf and JSON require UTF-8, and a parser refuses the whole message for one byte of another encoding. A producer of
Latin-1 is often one of many in the batch of a Collector.
"""

from typing import Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor  # type: ignore[import-untyped]  # no py.typed

from udfs.linear import Match, expression
from udfs.otlp.wire_format import BYTES, fields_of, varint_bytes

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

    O(bytes), some 1.5 us a field.
    """
    return _repair(data, message, 0)


def _repair(data: bytes, message: Descriptor, level: int) -> Repaired:
    parts: list[bytes] = []
    texts = done = last = 0
    for field in fields_of(data, 0, len(data)):
        tag_first, last = last, field.stop
        kind = message.fields_by_number.get(field.number) if field.wire_type == BYTES and field.whole else None
        if kind is None:
            continue
        found = _content(data[field.first : field.stop], kind, level)
        if found.texts:
            tag = varint_bytes(field.number << 3 | BYTES)
            parts += (data[done:tag_first], tag, varint_bytes(len(found.data)), found.data)
            texts, done = texts + found.texts, field.stop
    return Repaired(b"".join((*parts, data[done:])), texts) if texts else Repaired(data, 0)


def _content(content: bytes, kind: FieldDescriptor, level: int) -> Repaired:
    """Repair the content of a field."""
    if kind.type == FieldDescriptor.TYPE_MESSAGE and level < _LEVELS_MAX:
        return _repair(content, kind.message_type, level + 1)
    return _text(content) if kind.type == FieldDescriptor.TYPE_STRING else Repaired(content, 0)


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
