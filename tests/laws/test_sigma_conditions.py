"""Law of the import of Sigma rules: a rule that is imported holds for the records for which the Sigma rule does.

The other side is a small evaluation of Sigma's specification, with wildcards and a condition tree of its own.
"""

import operator
import re
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from reasoner.sigma.refused import Refused
from tests.support.sigma import ATTRIBUTES, compiled, plain

TEXTS = ("a", "B", "ab", "A-b", "a*", "*b", "?b", r"\*", r"a\\", "b\\", "5", "-a /b", "ba -x")
MODIFIERS = (
    *("", "contains", "startswith", "endswith", "contains|all", "cased", "contains|cased"),
    *("windash|contains", "windash|contains|all"),
)
EXPRESSIONS = ("a.b", "^A", "b$", "(a|5)")
REASONS = ("compared twice", "alternatives", "found all beside", "values that all count")
NAMES = ("one", "two_a", "two_b")

texts = st.sampled_from(TEXTS)
of_text = st.tuples(
    st.sampled_from(["|".join(filter(None, (name, neq))) for name in MODIFIERS for neq in ("", "neq")]),
    st.lists(texts, min_size=1, max_size=3),
)
of_other = st.sampled_from(
    [("re", [text]) for text in EXPRESSIONS]
    + [("re|i", [text]) for text in EXPRESSIONS]
    + [("exists", [True]), ("exists", [False]), ("gte", [5]), ("lt", [5, 3]), ("gt|neq", [4]), ("fieldref", ["User"])]
)
items = st.tuples(st.sampled_from(tuple(ATTRIBUTES)), of_text | of_other)
maps = st.lists(items, min_size=1, max_size=2, unique_by=lambda item: (item[0], item[1][0]))
selections = maps.map(lambda found: [found]) | st.lists(maps, min_size=1, max_size=2)
trees = st.recursive(
    st.sampled_from((*NAMES, "1 of two_*", "all of two_*", "1 of them")),
    lambda tree: st.tuples(st.just("not"), tree) | st.tuples(st.sampled_from(("and", "or")), tree, tree),
    max_leaves=4,
)
records = st.fixed_dictionaries(
    {name: st.sampled_from(("", "a", "Ab", "a-B", "b*a", "a\\", "5", "4.5", "xaxb -a /b")) for name in ATTRIBUTES}
)


def document_of(detections: dict[str, Any], tree: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, selection in detections.items():
        listed = [
            {
                "|".join(filter(None, (field, modifiers))): values[0] if len(values) == 1 else values
                for field, (modifiers, values) in of_map
            }
            for of_map in selection
        ]
        found[name] = listed[0] if len(listed) == 1 else listed
    return plain({**found, "condition": written(tree)})


def written(tree: Any) -> str:
    match tree:
        case ("not", part):
            return f"not ({written(part)})"
        case (link, first, second):
            return f"({written(first)}) {link} ({written(second)})"
        case name:
            return str(name)


def holds(tree: Any, detections: dict[str, Any], record: dict[str, str]) -> bool:
    """Return whether a condition holds for a record."""

    def of_selection(name: str) -> bool:
        return any(all(item_holds(field, test, record) for field, test in of_map) for of_map in detections[name])

    match tree:
        case ("not", part):
            return not holds(part, detections, record)
        case ("and", first, second):
            return holds(first, detections, record) and holds(second, detections, record)
        case ("or", first, second):
            return holds(first, detections, record) or holds(second, detections, record)
        case "1 of two_*":
            return of_selection("two_a") or of_selection("two_b")
        case "all of two_*":
            return of_selection("two_a") and of_selection("two_b")
        case "1 of them":
            return any(map(of_selection, NAMES))
    return of_selection(tree)


def item_holds(field: str, test: tuple[str, list[Any]], record: dict[str, str]) -> bool:
    modifiers, values = test[0].split("|"), test[1]
    found = record[field]
    if "exists" in modifiers:
        return bool(found) is values[0]
    if "fieldref" in modifiers:
        return bool(found) and found.lower() == record[values[0]].lower()
    link = all if "all" in modifiers else any
    return bool(found and link(value_holds(modifiers, value, found) for value in values)) is ("neq" not in modifiers)


def value_holds(modifiers: list[str], value: Any, found: str) -> bool:
    if "re" in modifiers:
        return re.search(value, found, re.IGNORECASE if "i" in modifiers else 0) is not None
    if isinstance(value, int):
        number = float(found) if re.fullmatch(r"\d+(\.\d+)?", found) else None
        orders = {"gte": operator.ge, "gt": operator.gt, "lt": operator.lt}
        return number is not None and bool(orders[modifiers[0]](number, value))
    dashed = re.split(r"\B[-/]\b", value) if "windash" in modifiers else [value]
    variants = [dashed[0]]
    for part in dashed[1:]:
        variants = [f"{variant}{dash}{part}" for variant in variants for dash in "-/–—―"]
    return any(text_holds(modifiers, variant, found) for variant in variants)


def text_holds(modifiers: list[str], value: str, found: str) -> bool:
    pattern = "".join(signs(value))
    before = ".*" if {"contains", "endswith"} & set(modifiers) else ""
    after = ".*" if {"contains", "startswith"} & set(modifiers) else ""
    flags = re.DOTALL if "cased" in modifiers else re.DOTALL | re.IGNORECASE
    return re.fullmatch(before + pattern + after, found, flags) is not None


def signs(value: str) -> list[str]:
    """Return the expression of each sign of a value with wildcards and escapes."""
    found: list[str] = []
    place = 0
    while place < len(value):
        sign, following = value[place], value[place + 1 : place + 2]
        if sign == "\\" and following and following in "\\*?":
            found.append(re.escape(following))
            place += 1
        else:
            found.append({"*": ".*", "?": "."}.get(sign, re.escape(sign)))
        place += 1
    return found


@given(
    detections=st.fixed_dictionaries(dict.fromkeys(NAMES, selections)),
    tree=trees,
    found=st.lists(records, min_size=1, max_size=6),
)
def test_an_imported_rule_holds_for_the_records_for_which_the_sigma_rule_holds(
    detections: dict[str, Any], tree: Any, found: list[dict[str, str]]
) -> None:
    reason = ""
    try:
        conditions = compiled(document_of(detections, tree))
    except Refused as refused:
        reason = str(refused)
        event("refused")
    if reason:
        assert any(words in reason for words in REASONS), reason
        return
    for record in found:
        fields = {ATTRIBUTES[name]: text for name, text in record.items()}
        expected = bool(record["Image"]) and holds(tree, detections, record)  # the mapping wants an executable
        assert conditions.hold(fields) is expected, (record, conditions)
