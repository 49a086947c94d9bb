"""Conditions in disjunctive form: a list of alternatives, each a list of tests that must all hold.

The notation of rules has a list of maps, of which one must hold, with lists of values, of which one must hold, or with
`all` each. So alternatives that differ in the values of one test alone become one, and tests of one field that must all
hold become one with `all`; a negated test (`neq`) has the two the other way round.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Final, Literal, NamedTuple

from reasoner.sigma.refused import Refused
from state_schemas.contracts.rules import CONDITIONS_MAX, Condition, Scalar, Values

__all__ = ["Alternatives", "ValueTest", "both", "either", "of_condition", "written"]

ALTERNATIVES_MAX: Final = 500  # while they are built; written are at most CONDITIONS_MAX
# Comparisons that can be said of several values of one field.
_WITH_ALL: Final = ("", "contains", "startswith", "endswith", "re", "cidr")
_SINGLE: Final = ("exists", "fieldref")
Link = Literal["or", "and"]


class ValueTest(NamedTuple):
    """A test of one field against values. link: whether one value decides (`or`) or all do (`and`), negated or not."""

    field: str
    modifier: str  # how a value is compared, as in `contains|cased`
    negated: bool
    values: tuple[Scalar, ...]
    link: Link = "or"  # of a single value always

    @property
    def compared(self) -> tuple[str, str, bool]:
        return self.field, self.modifier, self.negated

    @property
    def is_open(self) -> bool:
        """Return whether there are several values of which one decides."""
        return self.link == "or" and len(self.values) > 1

    def links(self, link: Link) -> bool:
        """Return whether further values can be linked in this way."""
        name = self.modifier.removesuffix("cased").removesuffix("|")
        is_sayable = name not in _SINGLE and (name in _WITH_ALL or (link == "and") == self.negated)
        return is_sayable and (self.link == link or len(self.values) == 1)

    def linked(self, values: Iterable[Scalar], link: Link) -> "ValueTest":
        found = tuple(dict.fromkeys(values))
        return self._replace(values=found, link=link if len(found) > 1 else "or")


Alternative = tuple[ValueTest, ...]
Alternatives = list[Alternative]


def either(first: Alternatives, second: Alternatives) -> Alternatives:
    """Return the alternatives that hold where one of the two does."""
    found = list(first)
    for alternative in second:
        for place, known in enumerate(found):
            joined = _joined_values(known, alternative)
            if joined is not None:
                found[place] = joined
                break
        else:
            found.append(alternative)
    return _bounded(found)


def both(first: Alternatives, second: Alternatives) -> Alternatives:
    """Return the alternatives that hold where both do. Raises Refused where there are too many."""
    if len(first) * len(second) > ALTERNATIVES_MAX:
        _bounded([()] * (len(first) * len(second)))
    found: Alternatives = []
    for one, other in product(first, second):
        parts = [one]
        for test in other:
            parts = [joined for part in parts for joined in _with_test(part, test)]
        found = either(found, parts)
    return found


def _bounded(found: Alternatives) -> Alternatives:
    if len(found) > ALTERNATIVES_MAX:
        message = f"the condition has more than {ALTERNATIVES_MAX} alternatives, a part has at most {CONDITIONS_MAX}"
        raise Refused(message)
    return found


def _joined_values(first: Alternative, second: Alternative) -> Alternative | None:
    """Return one alternative for two that differ in the values of one test at most, None for others."""
    apart = [test for test in first if test not in second]
    others = [test for test in second if test not in first]
    if not apart and not others:
        return first
    if len(apart) != 1 or len(others) != 1 or apart[0].compared != others[0].compared:
        return None
    # Two lists of values of one field, of each of which one must hold, cannot be said.
    has_list = any(test.is_open and test.compared == apart[0].compared for test in first if test is not apart[0])
    if has_list or not (apart[0].links("or") and others[0].links("or")):
        return None
    joined = apart[0].linked((*apart[0].values, *others[0].values), "or")
    return tuple(joined if test is apart[0] else test for test in first)


def _with_test(alternative: Alternative, test: ValueTest) -> Alternatives:
    """Return the alternative with one more test; several where its values must be divided among them."""
    same = [known for known in alternative if known.compared == test.compared]
    if test in same:
        return [alternative]
    for known in same:
        if known.links("and") and test.links("and"):
            joined = known.linked((*known.values, *test.values), "and")
            return [tuple(joined if other is known else other for other in alternative)]
    # A field can have two lists of values, one with `all`. Of two without it, one is divided.
    if any(known.is_open == test.is_open for known in same):
        if not test.is_open:
            raise _twice(test)
        singles = (test.linked((value,), "or") for value in test.values)
        return [joined for single in singles for joined in _with_test(alternative, single)]
    return [(*alternative, test)]


def _twice(test: ValueTest) -> Refused:
    return Refused(f"{test.field} is compared twice in one alternative, which one name of a map cannot say")


def written(alternatives: Alternatives) -> list[Condition]:
    """Return alternatives in the notation of rules. Raises Refused where they are beyond its limits."""
    divided = [part for alternative in alternatives for part in _divided(alternative)]
    if not 0 < len(divided) <= CONDITIONS_MAX:
        message = f"the condition has {len(divided)} alternatives, a part has at most {CONDITIONS_MAX}"
        raise Refused(message)
    return [_map(alternative) for alternative in divided]


def _divided(alternative: Alternative) -> Alternatives:
    """Return several alternatives for one with a test that has too many values of which one decides."""
    for place, test in enumerate(alternative):
        if len(test.values) > CONDITIONS_MAX and test.is_open:
            starts = range(0, len(test.values), CONDITIONS_MAX)
            parts = [test._replace(values=test.values[start : start + CONDITIONS_MAX]) for start in starts]
            return [
                divided
                for part in parts
                for divided in _divided((*alternative[:place], part, *alternative[place + 1 :]))
            ]
    return [alternative]


def _map(alternative: Alternative) -> Condition:
    found: dict[str, Values] = {}
    for test in alternative:
        if len(test.values) > CONDITIONS_MAX:
            message = f"{test.field} has {len(test.values)} values that all count, a field has at most {CONDITIONS_MAX}"
            raise Refused(message)
        key = _key(test, alternative)
        if key in found:
            raise _twice(test)
        found[key] = test.values[0] if len(test.values) == 1 else list(test.values)
    if len(found) > CONDITIONS_MAX:
        message = f"an alternative has {len(found)} fields, a condition has at most {CONDITIONS_MAX}"
        raise Refused(message)
    return found


def _key(test: ValueTest, alternative: Alternative) -> str:
    """Return the name of a test in a map. Beside a list of which one must hold, a single value has `all`."""
    is_all = len(test.values) > 1 and (test.link == "and") is not test.negated
    if not test.negated and not test.is_open:
        is_all = is_all or any(other.is_open and other.compared == test.compared for other in alternative)
    modifiers = (test.modifier, "all" if is_all else "", "neq" if test.negated else "")
    return "|".join((test.field, *filter(None, modifiers)))


def of_condition(condition: Condition) -> Alternatives:
    """Return a condition in the notation of rules as the alternative that it is."""
    return [tuple(_test(key, values) for key, values in condition.items())] if condition else [()]


def _test(key: str, values: Values) -> ValueTest:
    field, *modifiers = key.split("|")
    negated, is_all = "neq" in modifiers, "all" in modifiers
    listed: Sequence[Scalar] = values if isinstance(values, list) else [values]
    modifier = "|".join(name for name in modifiers if name not in ("neq", "all"))
    return ValueTest(field, modifier, negated, ()).linked(listed, "and" if is_all is not negated else "or")
