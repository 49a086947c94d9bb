"""Conditions in each form of the notation: every modifier, alone and negated, on fields of every source."""

from typing import Any, Final

from hypothesis import strategies as st

from state_schemas.contracts.rules import SourceName
from state_schemas.telemetry.spans import SPAN_KINDS
from udfs.rules.conditions import FIELDS, SEVERITIES, STATUSES

PLACES: Final = ("contains", "startswith", "endswith")
OF_TEXT: Final = (
    *("", "cased", "all", "re", "re|all", "cidr", "cidr|all", *PLACES),
    *(f"{place}|{more}" for place in PLACES for more in ("cased", "all")),
)
OF_NUMBERS: Final = ("", "gt", "gte", "lt", "lte")
OF_ALL: Final = ("exists", "fieldref")
# Names that stand for those with a dot at their end. Of each way in which spans are decided there is a field.
NAMES: Final = {"attributes.": ("attributes.route", "attributes.code"), "resource.": ("resource.k8s.pod.name",)}
KNOWN: Final = {"kind": SPAN_KINDS, "status": STATUSES, "severity": SEVERITIES}

TEXTS: Final = ("service-0", "Service-1", "pod-1", "GET /a", "/A", "503", "10.1.2.3", "error", "server")
wanted_texts = st.sampled_from((*TEXTS, "service-?", "get*", "*-1", "\\*", "absent", "a"))
wanted_numbers = st.sampled_from((5, 20.5, 60, 503, 1e9))


def fields_of(source: SourceName) -> dict[str, str]:
    """Return the fields of a source with their kinds."""
    known = {name: kind for name, kind in FIELDS[source].items() if (source, name) != ("insight", "kind")}
    known.pop("measures.", None)
    return {full: kind for name, kind in known.items() for full in NAMES.get(name, (name,))}


def conditions(source: SourceName) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a condition of one or two fields, so that it often holds."""
    known = fields_of(source)
    forms = [
        (field, form + neq)
        for field, kind in known.items()
        for form in (*OF_ALL, *(() if kind == "number" else OF_TEXT), *(() if kind == "text" else OF_NUMBERS))
        for neq in ("", "|neq")
    ]
    one = st.sampled_from(sorted(set(forms))).flatmap(lambda drawn: _keyed(known, *drawn))
    return st.lists(one, min_size=1, max_size=2).map(dict)


def _keyed(known: dict[str, str], field: str, form: str) -> st.SearchStrategy[tuple[str, Any]]:
    """Draw the key of a condition with its value."""
    modifiers = [name for name in form.split("|") if name]
    key = st.just("|".join((field, *modifiers)))
    return st.tuples(key, _values(known, field, [name for name in modifiers if name != "neq"]))


def _values(known: dict[str, str], field: str, modifiers: list[str]) -> st.SearchStrategy[Any]:
    if "exists" in modifiers:
        return st.booleans()
    if "fieldref" in modifiers:
        return st.sampled_from(sorted(known))
    if known[field] == "number" or set(modifiers) & set(OF_NUMBERS):
        return _some(wanted_numbers)
    if "re" in modifiers:
        return _some(st.sampled_from(("^get", "(?i)^get", "[0-9]$", "a|-")))
    if "cidr" in modifiers:
        return _some(st.sampled_from(("10.0.0.0/8", "10.1.2.3/32", "::/0")))
    if not modifiers and field in KNOWN:
        return _some(st.sampled_from(KNOWN[field]))
    return _some(wanted_texts if known[field] == "text" else wanted_texts | wanted_numbers)


def _some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=2)
