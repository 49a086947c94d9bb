"""Values of Sigma, as pySigma has them after its modifiers, to tests of one field."""

from collections.abc import Sequence
from typing import Final

from sigma.types import (
    CompareOperators,
    Placeholder,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaTimestampPart,
    SigmaType,
    SpecialChars,
)

from reasoner.sigma.alternatives import Alternatives, ValueTest, both, either
from reasoner.sigma.mapping import Source
from reasoner.sigma.refused import Refused
from state_schemas.contracts.rules import Scalar

__all__ = ["of_field", "of_keyword"]

_PLACES: Final = {(False, False): "", (True, False): "endswith", (False, True): "startswith", (True, True): "contains"}
_ORDERS: Final = {
    CompareOperators.LT: "lt",
    CompareOperators.LTE: "lte",
    CompareOperators.GT: "gt",
    CompareOperators.GTE: "gte",
}
_NO_VALUE: Final = (
    "is no value here, because a record does not say whether a field is missing, null or empty; if missing or "
)
_NULL: Final = f"null {_NO_VALUE}empty is meant, write `field|exists: false`"


def of_field(name: str, value: SigmaType, source: Source, negated: bool) -> Alternatives:
    """Return the test of a field of Sigma. Raises Refused."""
    if isinstance(value, SigmaExpansion):
        found = [of_field(name, one, source, negated) for one in value.values]
        return _linked(found, negated)
    field = source.field(name)
    if isinstance(value, SigmaFieldReference):
        if value.starts_with or value.ends_with:
            message = (
                f"{name}: fieldref with contains, startswith or endswith; a field can only be equal to another one"
            )
            raise Refused(message)
        return _test(field, "fieldref", source.field(value.field), negated)
    if isinstance(value, SigmaExists):
        return _test(field, "exists", bool(value.exists) is not negated, False)
    if isinstance(value, SigmaCompareExpression):
        if value.op not in _ORDERS:
            message = f"{name}: the comparison {value.op.name}"
            raise Refused(message)
        return _test(field, _ORDERS[value.op], value.number.number, negated)
    if isinstance(value, SigmaCIDRExpression):
        return _test(field, "cidr", str(value.network), negated)
    if isinstance(value, SigmaNull):
        message = f"{name}: {_NULL}"
        raise Refused(message)
    return _test(field, *_compared(name, value), negated)


def of_keyword(value: SigmaType, source: Source, negated: bool) -> Alternatives:
    """Return the test of a value that Sigma looks for in the whole event. Raises Refused."""
    if isinstance(value, SigmaExpansion):
        return _linked([of_keyword(one, source, negated) for one in value.values], negated)
    field = source.keyword_field()
    if not isinstance(value, SigmaString | SigmaRegularExpression | SigmaNumber):
        message = f"found {type(value).__name__} among keywords, expected text, a number or a regular expression"
        raise Refused(message)
    modifier, wanted = _compared("keywords", value)
    if not isinstance(value, SigmaRegularExpression):
        # A keyword is looked for anywhere, whatever wildcards it begins and ends with.
        modifier = "contains|cased" if "cased" in modifier else "contains"
    return _test(field, modifier, str(wanted), negated)


def _linked(found: Sequence[Alternatives], negated: bool) -> Alternatives:
    """Return alternatives of which one must hold; of negated ones all must."""
    linked = found[0]
    for one in found[1:]:
        linked = both(linked, one) if negated else either(linked, one)
    return linked


def _test(field: str, modifier: str, value: Scalar, negated: bool) -> Alternatives:
    return [(ValueTest(field, modifier, negated, (value,)),)]


def _compared(name: str, value: SigmaType) -> tuple[str, Scalar]:
    """Return the modifier and the value of text, a number, a truth value or a regular expression. Raises Refused."""
    if isinstance(value, SigmaString):
        return _text(name, value)
    if isinstance(value, SigmaRegularExpression):
        return "re", _expression(name, value)
    if isinstance(value, SigmaBool):
        return "", "true" if value.boolean else "false"
    if isinstance(value, SigmaNumber) and not isinstance(value, SigmaTimestampPart):
        return "", value.number
    message = f"{name}: found {type(value).__name__}, which no condition says"
    raise Refused(message)


def _text(name: str, value: SigmaString) -> tuple[str, str]:
    parts = list(value.s)
    if any(isinstance(part, Placeholder) for part in parts):
        message = f"{name}: found a placeholder of the modifier expand, expected its values"
        raise Refused(message)
    if not "".join(part if isinstance(part, str) else "*" for part in parts):
        message = f"{name}: the empty text {_NO_VALUE}empty is meant, write `field|exists: false`"
        raise Refused(message)
    is_wild = len(parts) > 1
    starts, ends = (is_wild and parts[place] is SpecialChars.WILDCARD_MULTI for place in (0, -1))
    inner = parts[int(starts) : len(parts) - int(ends)] or parts[:1]
    modifiers = (_PLACES[starts, ends], "cased" if isinstance(value, SigmaCasedString) else "")
    return "|".join(filter(None, modifiers)), "".join(map(_written, inner))


def _written(part: object) -> str:
    """Return a part of text in the notation of rules, in which a backslash makes the sign behind it itself."""
    if part is SpecialChars.WILDCARD_MULTI:
        return "*"
    if part is SpecialChars.WILDCARD_SINGLE:
        return "?"
    return "".join(f"\\{char}" if char in "\\*?" else char for char in str(part))


def _expression(name: str, value: SigmaRegularExpression) -> str:
    if value.contains_placeholder():
        message = f"{name}: found a placeholder of the modifier expand, expected its values"
        raise Refused(message)
    flags = "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
    return f"(?{flags}){value.regexp}" if flags else str(value.regexp)
