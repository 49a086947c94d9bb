"""Conditions of rules on the fields of a signal, in the notation of Sigma: `field|modifier: value`.

Text is compared without case, `*` and `?` stand for any text and any character, and a backslash before them for
themselves (https://sigmahq.io/sigma-specification/specification/sigma-rules-specification.html). All fields of a map
must hold, and of a list of maps or of values one. A field that a signal does not have, or that is empty, fulfils
`exists: false` alone. A number is compared with text by its value: `503` holds for "503", `1.10` for "1.1". A test with
`neq` holds where the same test without it does not: for another value, and for a field that a signal does not have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, get_args

from state_schemas.contracts.insight import Kind, Severity
from state_schemas.contracts.rules import Condition, SourceName, Values
from state_schemas.telemetry.spans import SPAN_KINDS
from udfs.rules.value_tests import (
    ORDERS,
    TEXTS,
    BadCondition,
    Comparison,
    FieldValue,
    Test,
    all_of,
    any_number,
    any_of,
    comparison_of,
    folded,
    value_test,
)

__all__ = [
    "Comparison",
    "Conditions",
    "FieldTest",
    "FieldValue",
    "Fields",
    "compile_conditions",
    "exact_texts",
    "field_fault",
]


class Fields(Protocol):
    """Fields of one signal."""

    def get(self, name: str, /) -> FieldValue | None:
        """Return a field, None where the signal does not have it."""


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
        "carried_by": "text",
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
        "attributes.": "any",
        "resource.": "any",
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
        "resource.": "any",
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
REMEMBERED_MAX: Final = 5_000  # templates for which a test is decided already: few of them, and they come often
_COMPARING: Final = ("cidr", "exists", "fieldref", "re", "gt", "gte", "lt", "lte", *TEXTS)
MODIFIERS: Final = ("all", "cased", "neq", *_COMPARING)


class FieldTest(NamedTuple):
    """The test of one field.

    other: the field with which it is compared, "" for none. numbers: the comparisons of a field that is a number, of
    which one must hold. exact: the texts, case-folded, of which it must be one; empty where others can hold too.
    negated: it holds where the rest does not.
    """

    field: str
    test: Test
    other: str = ""
    must_exist: bool = True
    numbers: tuple[Comparison, ...] = ()
    exact: frozenset[str] = frozenset()
    negated: bool = False

    @property
    def fields(self) -> frozenset[str]:
        """Return the fields that are read."""
        return frozenset((self.field, self.other)) - {""}

    def holds(self, fields: Fields) -> bool:
        return self._holds(fields) is not self.negated

    def _holds(self, fields: Fields) -> bool:
        found = fields.get(self.field)
        if found is None or found in ((), ""):
            return not self.must_exist
        if not self.must_exist:
            return False
        if self.other:
            other = fields.get(self.other)
            return other is not None and not folded(found).isdisjoint(folded(other))
        return self.test(found)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Compiled conditions of one part of a step."""

    alternatives: tuple[tuple[FieldTest, ...], ...]

    def hold(self, fields: Fields) -> bool:
        """Return whether the fields of a signal fulfil one of the maps. O(fields)."""
        for tests in self.alternatives:  # without generators, which take 0.5 us: records have no time for them
            for test in tests:
                if not test.holds(fields):
                    break
            else:
                return True
        return False

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
    names = [f"{other}NAME" if other.endswith(".") else other for other in near or known]
    return f"did you mean {names[0]}?" if near else f"there are {', '.join(names)}"


def _field_test(source: SourceName, key: str, values: Values) -> FieldTest:
    field, *modifiers = key.split("|")
    if fault := field_fault(source, field):
        raise BadCondition(fault)
    unknown = [name for name in modifiers if name not in MODIFIERS]
    if unknown:
        message = f"unknown modifier {unknown[0]!r}; {_nearest(unknown[0], sorted(MODIFIERS))}"
        raise BadCondition(message)
    positive = [name for name in modifiers if name != "neq"]
    if fault := _modifier_fault(positive):
        raise BadCondition(fault)
    listed: list[object] = list(values) if isinstance(values, list) else [values]
    if "" in listed:
        message = f"{field}: found empty text, which no field has: write {field}|exists: false"
        raise BadCondition(message)
    test = _positive_test(source, field, positive, listed)
    # Neither a number nor a text says by itself for which values a negated test holds.
    return test._replace(negated=True, numbers=(), exact=frozenset()) if positive != modifiers else test


def _positive_test(source: SourceName, field: str, modifiers: Sequence[str], listed: list[object]) -> FieldTest:
    """Return the test of a field without `neq`. Raises BadCondition."""
    if "exists" in modifiers:
        return _existence(field, listed)
    if "fieldref" in modifiers:
        return _reference(source, field, listed)
    kind, is_all = _kind_of(source, field), "all" in modifiers
    if kind == "number" or any(name in ORDERS for name in modifiers):
        numbers = tuple(comparison_of(kind, modifiers, value) for value in listed)
        return FieldTest(field, any_number(numbers), numbers=numbers)
    if not modifiers and (wrong := _unknown_value(source, field, listed)):
        raise BadCondition(wrong)
    if kind == "text" and any(isinstance(value, bool) for value in listed):
        message = "the field is text, found true or false, expected quotes around text that looks like that"
        raise BadCondition(message)
    tests = [value_test(modifiers, value) for value in listed]
    exact = frozenset() if modifiers else exact_texts(listed)
    test = all_of(tests) if is_all else any_of(tests)
    return FieldTest(field, lru_cache(REMEMBERED_MAX)(test) if field == "template" else test, exact=exact)


def exact_texts(values: Sequence[object]) -> frozenset[str]:
    """Return the case-folded texts of which a field must be one; none where a value is no plain text."""
    if not all(isinstance(value, str) and not set(value) & set("*?\\") for value in values):
        return frozenset()
    return frozenset(str(value).casefold() for value in values)


def _modifier_fault(modifiers: Sequence[str]) -> str:
    """Return why these modifiers do not go together, "" if they do."""
    comparing = [name for name in modifiers if name in _COMPARING]
    if len(comparing) > 1:
        return f"found {' and '.join(comparing)}, expected one of them"
    beside = [name for name in modifiers if name not in _COMPARING]
    if comparing and comparing[0] not in TEXTS and (wrong := [name for name in beside if name == "cased"]):
        return f"found {wrong[0]} beside {comparing[0]}, expected it beside {', '.join(TEXTS)} or alone"
    if "all" in beside and comparing and comparing[0] not in (*TEXTS, "re", "cidr"):
        return f"found all beside {comparing[0]}, expected it beside {', '.join((*TEXTS, 're', 'cidr'))}"
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
