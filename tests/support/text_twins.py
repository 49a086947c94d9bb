"""Requests with texts that are not UTF-8, and their twins: what is expected of them.

Each text of a request may contain MARK, a character of three bytes. The damaged bytes have three invalid bytes in its
place, so that all lengths stay; the repaired twin has three U+FFFD, and the valid twin three letters.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]

from tests.support.otlp_forms import otlp_json

MARK: Final = "\ue000"
_INVALID: Final = b"\xff\xfe\xfd"
_REPAIRED: Final = "\ufffd" * 3
_VALID: Final = "abc"

_M = TypeVar("_M", bound=Message)


def damaged(message: Message) -> bytes:
    """Return the request in protobuf with invalid bytes in place of each mark."""
    return bytes(message.SerializeToString()).replace(MARK.encode(), _INVALID)


def damaged_json(message: Message) -> bytes:
    """Return the request in JSON with invalid bytes in place of each mark."""
    return json.dumps(json.loads(otlp_json(message)), ensure_ascii=False).encode().replace(MARK.encode(), _INVALID)


def repaired(message: _M) -> _M:
    """Return the request that repair makes."""
    return _with(message, _REPAIRED)


def valid(message: _M) -> _M:
    """Return the request with letters in place of each mark; its bytes are as many as those of the damaged one."""
    return _with(message, _VALID)


def marked(message: Any) -> int:
    """Return the number of texts with a mark."""
    return sum(MARK in text for text in _texts(message))


def _with(message: _M, text: str) -> _M:
    out: _M = type(message)()
    out.MergeFrom(message)
    for inner in _messages(out):
        for field, value in inner.ListFields():
            if field.type != FieldDescriptor.TYPE_STRING:
                continue
            if field.label == FieldDescriptor.LABEL_REPEATED:
                value[:] = [element.replace(MARK, text) for element in value]
            else:
                setattr(inner, field.name, value.replace(MARK, text))
    return out


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.label == FieldDescriptor.LABEL_REPEATED else (value,):
                yield from _messages(inner)


def _texts(message: Any) -> Iterator[str]:
    for inner in _messages(message):
        for field, value in inner.ListFields():
            if field.type == FieldDescriptor.TYPE_STRING:
                yield from value if field.label == FieldDescriptor.LABEL_REPEATED else (value,)
