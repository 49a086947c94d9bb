"""Conditions of rules on the fields of a signal, in the notation of Sigma: `field|modifier: value`.

Text is compared without case, `*` and `?` stand for any text and any character, and a backslash before them for
themselves (https://sigmahq.io/sigma-specification/specification/sigma-rules-specification.html). All fields of a map
must hold, and of a list of maps or of values one. A field that a signal does not have, or that is empty, fulfils
`exists: false` alone. A number is compared with text by its value: `503` holds for "503", `1.10` for "1.1".
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, NamedTuple, Protocol, get_args

import re2

from state_schemas.contracts.insight import Kind, Severity
from state_schemas.contracts.rules import Condition, SourceName, Values
from state_schemas.telemetry.spans import SPAN_KINDS
from udfs.linear import expression

__all__ = ["Conditions", "FieldTest", "FieldValue", "Fields", "compile_conditions", "field_fault"]

# A field has one value, or several of which one must hold.
FieldValue = str | int | float | bool | tuple[str, ...]


class Fields(Protocol):
    """Fields of one signal."""

    def get(self, name: str, /) -> FieldValue | None:
        """Return a field, None where the signal does not have it."""


Test = Callable[[FieldValue], bool]
Comparison = Callable[[Any], Any]  # of a number or of an array of them

_SERVICE: Final = {"env": "text", "namespace": "text", "service": "text", "version": "text", "site_id": "text"}
STATUSES: Final = ("unset", "error")
SEVERITIES: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
# Fields of each source. A name that ends with a dot stands for each name that begins with it.
FIELDS: Final[Mapping[SourceName, Mapping[str, str]]] = {
    "insight": {
        **_SERVICE,
        "kind": "text",
        "subject": "text",
        "severity": "text",
        "title": "text",
        "host": "text",
        "operation": "text",
        "callee": "text",
        "template": "text",
        "confidence": "number",
        "cold_start": "text",
        "measures.": "number",
    },
    "span": {
        **_SERVICE,
        "host": "text",
        "name": "text",
        "kind": "text",
        "status": "text",
        "duration_ms": "number",
    },
    "log": {
        **_SERVICE,
        "host": "text",
        "body": "text",
        "severity": "text",
        "severity_number": "number",
        "event_name": "text",
        "pattern": "text",
        "template": "text",
        "exception_type": "text",
        "attributes.": "any",
    },
}
# Fields of which all values are known.
_VALUES: Final[Mapping[tuple[SourceName, str], Sequence[str]]] = {
    ("insight", "kind"): get_args(Kind),
    ("insight", "severity"): get_args(Severity),
    ("span", "kind"): SPAN_KINDS,
    ("span", "status"): STATUSES,
    ("log", "severity"): SEVERITIES,
}
_ORDERS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_TEXTS: Final = ("contains", "startswith", "endswith")
_COMPARING: Final = ("cidr", "exists", "fieldref", "re", "gt", "gte", "lt", "lte", *_TEXTS)
MODIFIERS: Final = ("all", "cased", *_COMPARING)
EXPRESSION_CHARS_MAX: Final = 1_000


class BadCondition(ValueError):
    """A condition that cannot be used; the text says what to write instead."""


class FieldTest(NamedTuple):
    """The test of one field.

    other: the field with which it is compared, "" for none. numbers: the comparisons of a field that is a number, of
    which one must hold; they work on arrays too.
    """

    field: str
    test: Test
    other: str = ""
    must_exist: bool = True
    numbers: tuple[Comparison, ...] = ()

    @property
    def fields(self) -> frozenset[str]:
        """Return the fields that are read."""
        return frozenset((self.field, self.other)) - {""}

    def holds(self, fields: Fields) -> bool:
        found = fields.get(self.field)
        if found is None or found in ((), ""):
            return not self.must_exist
        if not self.must_exist:
            return False
        if self.other:
            other = fields.get(self.other)
            return other is not None and not _folded(found).isdisjoint(_folded(other))
        return self.test(found)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Compiled conditions of one part of a step."""

    alternatives: tuple[tuple[FieldTest, ...], ...]

    def hold(self, fields: Fields) -> bool:
        """Return whether the fields of a signal fulfil one of the maps. O(fields)."""
        return any(all(test.holds(fields) for test in tests) for tests in self.alternatives)

    def fields(self) -> frozenset[str]:
        """Return the fields that are read."""
        return frozenset(name for tests in self.alternatives for test in tests for name in test.fields)


def compile_conditions(source: SourceName, conditions: Sequence[Condition]) -> tuple[Conditions, list[str]]:
    """Return the conditions, and their faults as sentences; with faults they are not to be used."""
    faults: list[str] = []
    alternatives = []
    for condition in conditions:
        tests = []
        for key, values in condition.items():
            try:
                tests.append(_field_test(source, key, values))
            except BadCondition as error:
                faults.append(f"{key}: {error}")
        alternatives.append(tuple(tests))
    return Conditions(tuple(alternatives)), faults


def field_fault(source: SourceName, field: str) -> str:
    """Return why a source has no such field, "" if it has."""
    known = FIELDS[source]
    if any(field == name if not name.endswith(".") else field.startswith(name) and field != name for name in known):
        return ""
    return f"{source} has no field {field!r}; {_nearest(field, sorted(known))}"


def _nearest(name: str, known: Sequence[str]) -> str:
    """Return what a name may have meant; a known name that ends with a dot goes on with another one."""
    near = get_close_matches(name, known, 1)
    names = (f"{other}NAME" if other.endswith(".") else other for other in known)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def _field_test(source: SourceName, key: str, values: Values) -> FieldTest:
    field, *modifiers = key.split("|")
    if fault := field_fault(source, field):
        raise BadCondition(fault)
    unknown = [name for name in modifiers if name not in MODIFIERS]
    if unknown:
        message = f"unknown modifier {unknown[0]!r}; {_nearest(unknown[0], sorted(MODIFIERS))}"
        raise BadCondition(message)
    if fault := _modifier_fault(modifiers):
        raise BadCondition(fault)
    listed: list[object] = list(values) if isinstance(values, list) else [values]
    if "exists" in modifiers:
        return _existence(field, listed)
    if "fieldref" in modifiers:
        return _reference(source, field, listed)
    kind, is_all = _kind_of(source, field), "all" in modifiers
    if kind == "number" or any(name in _ORDERS for name in modifiers):
        numbers = tuple(_comparison(kind, modifiers, value) for value in listed)
        return FieldTest(field, _any_number(numbers), numbers=numbers)
    if not modifiers and (wrong := _unknown_value(source, field, listed)):
        raise BadCondition(wrong)
    if kind == "text" and any(isinstance(value, bool) for value in listed):
        message = "the field is text, found true or false, expected quotes around text that looks like that"
        raise BadCondition(message)
    tests = [_value_test(modifiers, value) for value in listed]
    return FieldTest(field, _all_of(tests) if is_all else _any_of(tests))


def _modifier_fault(modifiers: Sequence[str]) -> str:
    """Return why these modifiers do not go together, "" if they do."""
    comparing = [name for name in modifiers if name in _COMPARING]
    if len(comparing) > 1:
        return f"found {' and '.join(comparing)}, expected one of them"
    beside = [name for name in modifiers if name not in _COMPARING]
    if comparing and comparing[0] not in _TEXTS and (wrong := [name for name in beside if name == "cased"]):
        return f"found {wrong[0]} beside {comparing[0]}, expected it beside {', '.join(_TEXTS)} or alone"
    if "all" in beside and comparing and comparing[0] not in (*_TEXTS, "re", "cidr"):
        return f"found all beside {comparing[0]}, expected it beside {', '.join((*_TEXTS, 're', 'cidr'))}"
    return ""


def _unknown_value(source: SourceName, field: str, values: Sequence[object]) -> str:
    """Return why a value can never hold, "" if it can: of some fields all values are known."""
    known = _VALUES.get((source, field), ())
    for value in values if known else ():
        name = str(value)
        if not set(name) & set("*?") and name.casefold() not in map(str.casefold, known):
            return f"{source} has no {field} {name!r:.60}; {_nearest(name, known)}"
    return ""


def _kind_of(source: SourceName, field: str) -> str:
    known = FIELDS[source]
    return known.get(field) or next(kind for name, kind in known.items() if field.startswith(name))


def _existence(field: str, values: Sequence[object]) -> FieldTest:
    if len(values) != 1 or not isinstance(values[0], bool):
        message = f"found {values!r:.60}, expected true or false"
        raise BadCondition(message)
    return FieldTest(field, lambda found: True, must_exist=values[0])


def _reference(source: SourceName, field: str, values: Sequence[object]) -> FieldTest:
    if len(values) != 1 or not isinstance(values[0], str):
        message = f"found {values!r:.60}, expected the name of another field"
        raise BadCondition(message)
    if fault := field_fault(source, values[0]):
        raise BadCondition(fault)
    return FieldTest(field, lambda found: True, other=values[0])


def _comparison(kind: str, modifiers: Sequence[str], value: object) -> Comparison:
    """Return the comparison of a number. Raises BadCondition where field, modifier and value do not fit each other."""
    order = next((name for name in modifiers if name in _ORDERS), "")
    if kind == "text":
        message = f"the field is text, found {order}, expected a field that is a number"
        raise BadCondition(message)
    if wrong := [name for name in modifiers if name != order]:
        message = f"the field is a number, found {wrong[0]}, expected gt, gte, lt, lte or a number"
        raise BadCondition(message)
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"the field is a number, found {value!r:.60}, expected a number"
        raise BadCondition(message)
    limit, compare = float(value), _ORDERS[order]
    return lambda found: compare(found, limit)


def _any_number(comparisons: Sequence[Comparison]) -> Test:
    def holds(found: FieldValue) -> bool:
        number = _number(found)
        return number is not None and any(compare(number) for compare in comparisons)

    return holds


def _value_test(modifiers: Sequence[str], value: object) -> Test:
    """Return the test of one value of a text."""
    if "cidr" in modifiers:
        return _in_network(value)
    if "re" in modifiers:
        return _matching(value)
    test = _text_test(modifiers, value)
    if modifiers or isinstance(value, bool) or not isinstance(value, int | float):
        return test
    is_equal = _any_number((lambda found: found == value,))
    return lambda found: test(found) or is_equal(found)


def _number(found: FieldValue) -> float | None:
    if isinstance(found, int | float):
        return float(found)
    try:
        return float(found) if isinstance(found, str) else None
    except ValueError:
        return None


def _in_network(value: object) -> Test:
    try:
        network = ip_network(value) if isinstance(value, str) else None
    except ValueError as error:
        message = f"found {value!r:.60}, expected a network such as 10.0.0.0/8: {error}"
        raise BadCondition(message) from error
    if network is None:
        message = f"found {value!r:.60}, expected a network such as 10.0.0.0/8"
        raise BadCondition(message)
    return lambda found: any(_is_inside(text, network) for text in _texts(found))


def _is_inside(text: str, network: IPv4Network | IPv6Network) -> bool:
    try:
        return ip_address(text) in network
    except ValueError:
        return False


def _matching(value: object) -> Test:
    if not isinstance(value, str) or not 0 < len(value) <= EXPRESSION_CHARS_MAX:
        message = f"expected a regular expression of at most {EXPRESSION_CHARS_MAX} characters"
        raise BadCondition(message)
    try:
        compiled = expression(value)
    except re2.error as error:
        message = f"found {value!r:.60}, expected a regular expression of RE2: {_reason(error)}"
        raise BadCondition(message) from error
    return lambda found: any(compiled.search(text) is not None for text in _texts(found))


def _reason(error: Exception) -> str:
    """Return what RE2 says, which it says in bytes."""
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _text_test(modifiers: Sequence[str], value: object) -> Test:
    """Return the test of text, with wildcards where the value has them."""
    wanted = _text_of(value)
    place = next((name for name in modifiers if name in _TEXTS), "")
    literal = "".join(char for is_wild, char in _pieces(wanted) if not is_wild)
    is_cased = "cased" in modifiers
    if any(is_wild for is_wild, _ in _pieces(wanted)):
        compiled = expression(_wild_expression(wanted, place), ignore_case=not is_cased)
        return lambda found: any(compiled.fullmatch(text) is not None for text in _texts(found))
    folded = literal if is_cased else literal.casefold()
    compare = _COMPARISONS[place]
    if is_cased:
        return lambda found: any(compare(text, folded) for text in _texts(found))
    return lambda found: any(compare(text.casefold(), folded) for text in _texts(found))


_COMPARISONS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "": lambda text, wanted: text == wanted,
    "contains": lambda text, wanted: wanted in text,
    "startswith": lambda text, wanted: text.startswith(wanted),
    "endswith": lambda text, wanted: text.endswith(wanted),
}


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Yield (is a wildcard, character) of a value; a backslash before a wildcard or a backslash makes it literal."""
    chars = iter(text)
    for char in chars:
        if char == "\\":
            following = next(chars, "")
            yield from ((False, following),) if following in ("*", "?", "\\") else ((False, "\\"),)
            if following and following not in ("*", "?", "\\"):
                yield False, following
        else:
            yield char in "*?", char


def _wild_expression(text: str, place: str) -> str:
    wild = {"*": ".*", "?": "."}
    parts = (wild[char] if is_wild else re2.escape(char) for is_wild, char in _pieces(text))
    before = ".*" if place in ("contains", "endswith") else ""
    after = ".*" if place in ("contains", "startswith") else ""
    return f"(?s){before}{''.join(parts)}{after}"


def _text_of(value: object) -> str:
    """Return a value as the text of a field: booleans as in JSON, numbers as they are written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _folded(found: FieldValue) -> frozenset[str]:
    return frozenset(text.casefold() for text in _texts(found))


def _texts(found: FieldValue) -> tuple[str, ...]:
    return found if isinstance(found, tuple) else (_text_of(found),)


def _any_of(tests: Sequence[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda found: any(test(found) for test in tests)


def _all_of(tests: Sequence[Test]) -> Test:
    return lambda found: all(test(found) for test in tests)
