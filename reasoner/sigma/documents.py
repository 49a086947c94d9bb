"""Documents of Sigma to pySigma's rules: what could cost more than its length is refused before pySigma reads it."""

import json
from collections.abc import Iterator, Mapping
from datetime import date
from hashlib import blake2b
from typing import Any, Final

from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.filters import SigmaFilter
from sigma.rule import SigmaRule

from reasoner.sigma.refused import Refused

__all__ = ["DIGEST", "PYSIGMA_ERRORS", "VERSION", "SigmaDocument", "said", "sigma_of"]

CONDITION_CHARS_MAX: Final = 2_000
NESTED_MAX: Final = 50  # parentheses and `not` of a condition
# What pySigma reads of a rule: a fault in its tags changes nothing of what it means, and dates are read here.
_READ: Final = (
    *("title", "id", "name", "taxonomy", "level", "description", "author", "license", "references", "falsepositives"),
    *("logsource", "detection", "correlation", "filter"),
)
MODIFIERS_MAX: Final = 6  # of a field, each once: `wide` doubles a value, `base64offset` makes three of it
_CORRELATION: Final = ("type", "rules", "generate", "group-by", "timespan", "aliases", "condition")

# Attributes of a rule: a hash of what is read of its document, and its version.
DIGEST: Final = "digest"
VERSION: Final = "version"

SigmaDocument = SigmaRule | SigmaCorrelationRule | SigmaFilter
_KINDS: Final[Mapping[str, type[SigmaDocument]]] = {
    "detection": SigmaRule,
    "correlation": SigmaCorrelationRule,
    "filter": SigmaFilter,
}
# pySigma has errors of its own for what it looks for, and Python's where a value has another type than it expects.
PYSIGMA_ERRORS: Final = (SigmaError, AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)


def sigma_of(plain: Any) -> SigmaDocument:
    """Return the rule, correlation or filter of a document. Raises Refused."""
    if not isinstance(plain, dict):
        message = "is no Sigma rule: expected a map with title, logsource and detection, or with title and correlation"
        raise Refused(message)
    if "action" in plain:
        message = f"action {plain['action']!r:.40} of rule collections is deprecated; write each rule out"
        raise Refused(message)
    if plain.get("taxonomy", "sigma") != "sigma":
        message = f"taxonomy {plain['taxonomy']!r:.40}: the mapping has the fields of Sigma's own taxonomy"
        raise Refused(message)
    for detections in (plain.get("detection"), plain.get("filter")):
        _check_detections(detections)
    _check_correlation(plain.get("correlation"))
    kinds = [name for name in _KINDS if name in plain]
    if len(kinds) > 1:
        message = f"found {' and '.join(kinds)}, expected one of them: write a document for each"
        raise Refused(message)
    read = {name: value for name, value in plain.items() if name in _READ}
    content = json.dumps(read, sort_keys=True, default=str).encode()
    read |= {DIGEST: blake2b(content, digest_size=16).hexdigest(), VERSION: _version(plain)}
    try:
        return _KINDS[kinds[0] if kinds else "detection"].from_dict(read)
    except PYSIGMA_ERRORS as error:
        message = f"is no Sigma rule: {said(error)}"
        raise Refused(message) from error


def _version(plain: Mapping[str, Any]) -> int:
    """Return the later one of `modified` and `date` as the number yyyymmdd, 1 without one. Raises Refused."""
    return max([1, *(_day(name, str(plain[name])) for name in ("modified", "date") if plain.get(name) is not None)])


def _day(name: str, text: str) -> int:
    """Return a day such as 2026-01-31 or 2026/1/31 as the number yyyymmdd. Raises Refused, which names the field."""
    try:
        day = date.fromisoformat("-".join(part.zfill(2) for part in text.replace("/", "-").split("-")))
    except ValueError as error:
        message = f"{name}: found {text!r:.40}, expected a day such as 2026-01-31, of which the version is made"
        raise Refused(message) from error
    return 10_000 * day.year + 100 * day.month + day.day


def said(error: BaseException) -> str:
    """Return the text of an error in one line, as short as one can be read."""
    text = f"{' '.join(str(error).split()):.300}" or type(error).__name__
    return text if isinstance(error, SigmaError) else f"{type(error).__name__}: {text}"


def _check_detections(found: Any) -> None:
    """Raise Refused for detections that pySigma reads at more than their length, or as something else."""
    if not isinstance(found, dict):
        return
    if "timeframe" in found:
        message = "timeframe is deprecated, and no part of the condition; write a correlation rule"
        raise Refused(message)
    conditions = found.get("condition")
    for condition in conditions if isinstance(conditions, list) else [conditions]:
        text = str(condition)
        if len(text) > CONDITION_CHARS_MAX or text.count("(") + text.count("not ") > NESTED_MAX:
            message = (
                f"the condition has more than {CONDITION_CHARS_MAX} characters, or {NESTED_MAX} times `(` and `not`"
            )
            raise Refused(message)
    for key in _keys(found):
        modifiers = key.split("|")[1:]
        if len(modifiers) > MODIFIERS_MAX or len(set(modifiers)) < len(modifiers):
            message = f"{key:.60}: found {len(modifiers)} modifiers, expected at most {MODIFIERS_MAX}, each once"
            raise Refused(message)
        if "re" in modifiers and (places := {"contains", "startswith", "endswith"}.intersection(modifiers)):
            # pySigma adds `.*` and no ^ or $: an expression that is looked for anywhere would hold anywhere.
            message = f"{key:.60}: {min(places)} beside re; write ^ or $ in the expression"
            raise Refused(message)


def _check_correlation(found: Any) -> None:
    """Raise Refused for what pySigma passes over in a correlation."""
    unknown = sorted(found.keys() - set(_CORRELATION)) if isinstance(found, dict) else []
    if unknown:
        message = f"correlation.{unknown[0]:.60}: unknown name, expected {', '.join(_CORRELATION)}"
        raise Refused(message)


def _keys(found: Any) -> Iterator[str]:
    """Yield the names of all maps inside. Recursion is bounded by the depth of a document."""
    if isinstance(found, dict):
        yield from found
    for part in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _keys(part)
