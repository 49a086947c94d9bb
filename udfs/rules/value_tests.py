"""Tests of single values: comparisons of numbers, text with wildcards, regular expressions, networks."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from math import isfinite
from typing import Any, Final, NamedTuple

import re2

from udfs.linear import expression

__all__ = [
    "ORDERS",
    "TEXTS",
    "BadCondition",
    "Comparison",
    "FieldValue",
    "Test",
    "all_of",
    "any_number",
    "any_of",
    "comparison_of",
    "folded",
    "value_test",
]

# A field has one value, or several of which one must hold.
FieldValue = str | int | float | bool | tuple[str, ...]
Test = Callable[[FieldValue], bool]

ORDERS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
TEXTS: Final = ("contains", "startswith", "endswith")
EXPRESSION_CHARS_MAX: Final = 1_000
NUMBER_CHARS_MAX: Final = 64
_OF_NUMBERS: Final = frozenset("0123456789+-.eE")


class BadCondition(ValueError):
    """A condition that cannot be used; the text says what to write instead."""


class Comparison(NamedTuple):
    """Comparison of a number, or of each of an array, with a limit. order: gt, gte, lt, lte, or "" for equal."""

    order: str
    limit: float

    def holds(self, found: Any) -> Any:
        return ORDERS[self.order](found, self.limit)

    def can_hold(self, least: float, greatest: float) -> bool:
        """Return whether it can hold for a number between two."""
        return not self.order or bool(self.holds(least) or self.holds(greatest))


def comparison_of(kind: str, modifiers: Sequence[str], value: object) -> Comparison:
    """Return the comparison of a number. Raises BadCondition where field, modifier and value do not fit each other."""
    order = next((name for name in modifiers if name in ORDERS), "")
    if kind == "text":
        message = f"the field is text, found {order}, expected a field that is a number"
        raise BadCondition(message)
    if wrong := [name for name in modifiers if name != order]:
        message = f"the field is a number, found {wrong[0]}, expected gt, gte, lt, lte or a number"
        raise BadCondition(message)
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"the field is a number, found {value!r:.60}, expected a number"
        raise BadCondition(message)
    return Comparison(order, float(value))


def any_number(comparisons: Sequence[Comparison]) -> Test:
    def holds(found: FieldValue) -> bool:
        number = _number(found)
        return number is not None and any(comparison.holds(number) for comparison in comparisons)

    return holds


def value_test(modifiers: Sequence[str], value: object) -> Test:
    """Return the test of one value of a text."""
    if "cidr" in modifiers:
        return _in_network(value)
    if "re" in modifiers:
        return _matching(value)
    test = _text_test(modifiers, value)
    if modifiers or isinstance(value, bool) or not isinstance(value, int | float):
        return test
    is_equal = any_number((Comparison("", float(value)),))
    return lambda found: test(found) or is_equal(found)


def _number(found: FieldValue) -> float | None:
    """Return the number that a field is; of text a finite decimal number in ASCII alone, so no `nan`, `1_000`, ` 5`."""
    if not isinstance(found, str):
        return float(found) if isinstance(found, int | float) else None
    if len(found) > NUMBER_CHARS_MAX or not _OF_NUMBERS.issuperset(found):
        return None
    try:
        number = float(found)
    except ValueError:
        return None
    return number if isfinite(number) else None


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
    place = next((name for name in modifiers if name in TEXTS), "")
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


def folded(found: FieldValue) -> frozenset[str]:
    return frozenset(text.casefold() for text in _texts(found))


def _texts(found: FieldValue) -> tuple[str, ...]:
    return found if isinstance(found, tuple) else (_text_of(found),)


def any_of(tests: Sequence[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda found: any(test(found) for test in tests)


def all_of(tests: Sequence[Test]) -> Test:
    return lambda found: all(test(found) for test in tests)
