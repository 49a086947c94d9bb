"""Translation of OTLP/JSON into OTLP/protobuf, so that one decoder reads both encodings.

OTLP/JSON is protobuf's JSON mapping in lower camel case with hexadecimal ids: a 64-bit integer is a string or a number,
an enum is a number or a name (unknown names are 0), NaN and infinities are strings, null means absent, and unknown
fields are ignored. Of several members of a oneof the first declared one is taken. Messages and fields are those of
opentelemetry-proto's descriptors.
"""

from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from math import inf, nan
from typing import Any, Final, NamedTuple

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor  # type: ignore[import-untyped]  # no py.typed
from msgspec import Raw
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from state_schemas.telemetry.signals import SignalType
from udfs.linear import expression
from udfs.otlp.refused import Refused
from udfs.otlp.repair import Repaired, repair_json
from udfs.otlp.signal import REQUESTS

__all__ = ["to_protobuf"]

# Fields that no decoder reads; msgspec skips them.
_UNREAD: Final = frozenset(
    (
        *("schema_url", "scope", "entity_refs", "trace_state", "links", "exemplars", "description", "metadata"),
        *("dropped_attributes_count", "dropped_events_count", "dropped_links_count"),
        *("string_value_strindex", "key_strindex"),
        *("Span.flags", "Status.message", "LogRecord.flags"),
    )
)
# Seldom read, and no fault of theirs costs more than the attribute: they are decoded apart.
_AS_WRITTEN: Final = "opentelemetry.proto.trace.v1.Span.attributes"
_UNREADABLE: Final = (UnicodeDecodeError, msgspec.DecodeError, RecursionError)
_ID_BYTES: Final = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
# A message in so many others is left empty, because upb parses 100. The decoder rejects a value at half this depth.
_LEVELS_MAX: Final = 99
_DOUBLE: Final = expression(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
_INTEGER_DIGITS_MAX: Final = 20
_SPECIAL: Final = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
_URL_SAFE: Final = str.maketrans("-_", "+/")
_INT32: Final = range(-(2**31), 2**31)
_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: _INT32,
    FieldDescriptor.CPPTYPE_UINT32: range(2**32),
    FieldDescriptor.CPPTYPE_INT64: range(-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT64: range(2**64),
}

# Value of a JSON field -> value of the protobuf field.
_Convert = Callable[[Any], object]


class _Field(NamedTuple):
    name: str
    repeated: bool
    # None where the value stays as it is.
    convert: _Convert | None
    # Fields of a message by their names in JSON; None for other values.
    fields: "_Fields | None"


_Fields = dict[str, _Field]
_FIELDS: Final[dict[str, _Fields]] = {}  # by name of the message


def to_protobuf(data: bytes, signal: SignalType, span_attributes: Set[str] = frozenset()) -> Repaired:
    """Return a request in protobuf, without the fields that are not read. Texts that are not UTF-8 are repaired.

    span_attributes: names of the attributes of spans that are read. About 0.2 M spans/s. Raises Refused.
    """
    request = REQUESTS[signal]()
    decoder = _DECODERS[signal]
    texts = 0
    try:
        try:
            found = _plain(decoder.decode(data))
        except (UnicodeDecodeError, msgspec.DecodeError):
            data, texts = repair_json(data)
            if not texts:
                raise
            found = _plain(decoder.decode(data))
    except RecursionError:  # of msgspec
        raise Refused(reason="too_deep") from None
    except UnicodeDecodeError:
        raise Refused(reason="malformed_json", found="found invalid UTF-8") from None
    except msgspec.DecodeError as error:  # a JSON path and type names, no payload: no struct has enums or free keys
        raise Refused(reason="malformed_json", found=str(error)) from None
    _Translation(span_attributes).fill(request, found, _FIELDS[request.DESCRIPTOR.name], 0)
    return Repaired(bytes(request.SerializeToString()), texts)


def _plain(found: Any) -> Any:
    """Return structs as maps; the attributes of spans stay as they are written."""
    return msgspec.to_builtins(found, builtin_types=(Raw,))


class _Translation(NamedTuple):
    """The translation of a message that is decoded. span_attributes: as in to_protobuf."""

    span_attributes: Set[str]

    def fill(self, message: Any, found: dict[str, Any], fields: _Fields, level: int) -> None:
        """Set the fields of a message. found: by name in JSON. level: number of messages around this one."""
        message.SetInParent()  # a message without fields is not absent
        if level == _LEVELS_MAX:
            return
        for key, value in found.items():
            name, repeated, convert, inner = fields[key]
            if inner is None and repeated:
                getattr(message, name).extend(map(convert, value) if convert else value)
            elif inner is None:
                setattr(message, name, convert(value) if convert else value)
            elif not repeated:
                self.fill(getattr(message, name), value, inner, level + 1)
            elif name == "attributes" and type(value) is Raw:
                self._add_attributes(message.attributes, value, inner, level + 1)
            else:
                children = getattr(message, name)
                for child in value:
                    if name == "attributes" and "stringValue" in child.get("value", ()):  # the common case, by one call
                        children.add(key=child.get("key", ""), value={"string_value": child["value"]["stringValue"]})
                    elif name != "events" or child.get("name") == "exception":  # no other event is read
                        self.fill(children.add(), child, inner, level + 1)

    def _add_attributes(self, children: Any, raw: Raw, fields: _Fields, level: int) -> None:
        """Add the attributes of a span that are read; one that is no attribute is left out, as in protobuf."""
        for pair in _pairs(raw) if self.span_attributes else ():
            if pair.key in self.span_attributes:
                try:
                    self.fill(children.add(), _plain(pair), fields, level)
                except (Refused, RecursionError):
                    del children[-1]


def _pairs(raw: Raw) -> Iterable[Any]:
    """Return the attributes that can be read of a list of them."""
    with suppress(*_UNREADABLE):
        return _PAIRS.decode(raw) or ()
    found: list[Any] = []
    with suppress(*_UNREADABLE):
        for one in msgspec.json.decode(repair_json(bytes(raw))[0], type=list[Raw]):
            with suppress(*_UNREADABLE):
                found.append(_PAIR.decode(one))
    return found


def _integer(limits: range) -> _Convert:
    def convert(value: int | str) -> int:
        if isinstance(value, str):
            if not _is_integer(value):
                raise _bad(found="a string that is not a decimal integer where an integer is expected")
            value = int(value)
        if value not in limits:
            raise _bad(found=f"an integer outside of its type's range {limits[0]}..{limits[-1]}")
        return value

    return convert


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return len(digits) <= _INTEGER_DIGITS_MAX and digits.isascii() and digits.isdigit()


def _enum(numbers: Mapping[str, int]) -> _Convert:
    number = _integer(_INT32)
    return lambda value: numbers.get(value, 0) if isinstance(value, str) and not _is_integer(value) else number(value)


def _double(value: float | str) -> float:
    if isinstance(value, float):
        return value
    if value in _SPECIAL:
        return _SPECIAL[value]
    if not _DOUBLE.fullmatch(value):
        raise _bad(found="a string that is not a number, NaN, Infinity or -Infinity where a double is expected")
    if abs(number := float(value)) == inf:
        raise _bad(found="a number too large for a double")
    return number


def _id(size: int) -> _Convert:
    def convert(value: str) -> bytes:
        """Return the bytes of an id, b"" if it has another length."""
        if len(value) != 2 * size:
            return b""
        try:
            found = bytes.fromhex(value)
        except ValueError:
            found = b""
        if len(found) != size:  # blanks between the digits count for fromhex, but not here
            raise _bad(found="a trace or span id that is not hexadecimal")
        return found

    return convert


def _base64(value: str) -> bytes:
    """Decode either alphabet, with or without padding."""
    text = value.translate(_URL_SAFE)
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise _bad(found="a bytesValue that is not base64, expected base64") from None


def _bad(found: str) -> Refused:
    return Refused(reason="malformed_json", found=f"found {found}")


def _form(field: FieldDescriptor) -> tuple[str, _Convert | None]:
    """Return the type of one value of a field in JSON, and its translation; define the struct of a message."""
    if field.cpp_type in _RANGES:
        return "int | str", _integer(_RANGES[field.cpp_type])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "str", _id(_ID_BYTES[field.name]) if field.name in _ID_BYTES else _base64
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_MESSAGE:
            return _define(field.message_type), None
        case FieldDescriptor.CPPTYPE_ENUM:
            return "int | str", _enum({name: value.number for name, value in field.enum_type.values_by_name.items()})
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return "float | str", _double
        case FieldDescriptor.CPPTYPE_BOOL:
            return "bool", None
    return "str", None


def _define(message: Descriptor) -> str:
    """Define the struct of a message and of those inside it, once each; return its name in this module."""
    name = f"Json{message.name}"
    if name in globals():
        return name
    globals()[name] = None  # a message may contain itself
    fields = _FIELDS.setdefault(message.name, {})
    types: list[tuple[str, Any, Any]] = []
    for field in message.fields:
        if not {field.name, f"{message.name}.{field.name}"}.isdisjoint(_UNREAD):
            continue
        json_type, convert = _form(field)
        repeated = field.label == FieldDescriptor.LABEL_REPEATED
        if field.full_name == _AS_WRITTEN:
            types.append((field.json_name, Raw, Raw()))
        else:
            types.append((field.json_name, f"list[{json_type}] | None" if repeated else f"{json_type} | None", None))
        inner = _FIELDS[field.message_type.name] if field.message_type else None
        fields[field.json_name] = _Field(field.name, repeated, convert, inner)
    # The field of a oneof that is declared first comes last, where it replaces the others.
    globals()[name] = msgspec.defstruct(name, types[::-1], module=__name__, omit_defaults=True, gc=False)
    return name


_DECODERS: Final = {
    signal: msgspec.json.Decoder(globals()[_define(request.DESCRIPTOR)]) for signal, request in REQUESTS.items()
}
_PAIR: Final = msgspec.json.Decoder(globals()[_define(KeyValue.DESCRIPTOR)])
_PAIRS: Final = msgspec.json.Decoder(list.__class_getitem__(_PAIR.type) | None)
