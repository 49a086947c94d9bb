"""Law of conditions: an index of rules finds those that hold by themselves, for each modifier and source."""

from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from state_schemas.contracts.rules import Rule, SourceName
from tests.support.conditions import OF_ALL, OF_NUMBERS, OF_TEXT, TEXTS, conditions, fields_of
from udfs.rules.compiled import compile_rules
from udfs.rules.conditions import MODIFIERS, compile_conditions

SOURCES: tuple[SourceName, ...] = get_args(SourceName)
texts = st.sampled_from((*TEXTS, ""))
numbers = st.sampled_from((5, 20.5, 503))
SEVERAL = ("host", "operation", "callee")  # of an insight: of these each that its evidence has
signals = st.sampled_from(SOURCES).flatmap(
    lambda source: st.tuples(
        st.just(source),
        st.lists(conditions(source), min_size=1, max_size=6),
        st.fixed_dictionaries(
            {},
            optional={
                name: st.lists(texts).map(tuple) if name in SEVERAL else numbers if kind == "number" else texts
                for name, kind in fields_of(source).items()
            },
        ),
    )
)


def test_the_forms_of_the_laws_are_all_forms_of_the_notation() -> None:
    listed = {name for form in (*OF_ALL, *OF_NUMBERS, *OF_TEXT) for name in form.split("|") if name}
    assert listed | {"neq"} == set(MODIFIERS)


@given(signals)
def test_an_index_finds_the_rules_whose_conditions_hold(drawn: tuple[SourceName, list[Any], dict[str, Any]]) -> None:
    source, found, fields = drawn
    rules = [
        Rule.model_validate({"id": f"r{n}", "version": 1, "title": "t", "by": "env", "within": "1m", "steps": [step]})
        for n, step in enumerate({"name": "a", source: condition} for condition in found)
    ]
    index, faults = compile_rules(rules)
    assert not faults
    hits = {hit.rule.partition("@")[0] for _, hit in index.hits(source, fields, 0)}
    assert hits == {
        f"r{n}" for n, condition in enumerate(found) if compile_conditions(source, [condition])[0].hold(fields)
    }
