"""Conditions in the notation of Sigma: what holds for which fields, and what is refused with what to write instead."""

from typing import Any

import pytest

from udfs.rules.conditions import compile_conditions

LOG: dict[str, Any] = {
    "service": "Cart",
    "body": "connection pool exhausted (5*3)",
    "severity_number": 17,
    "host": "10.1.2.3",
    "attributes.peer": "db\\1",
    "attributes.code": "503",
    "attributes.price": "1.10",
    "attributes.empty": "",
    "resource.k8s.pod.name": "Cart-1",
}


@pytest.mark.parametrize(
    ("key", "value", "holds"),
    [
        ("service", "cart", True),
        ("service|cased", "cart", False),
        ("service", ["shop", "cart"], True),
        ("service", "car", False),
        ("service", "c?r*", True),
        ("service", "c?", False),
        ("body|contains", "POOL", True),
        ("body|contains|all", ["pool", "exhausted"], True),
        ("body|contains|all", ["pool", "missing"], False),
        ("body|contains", ["absent", "pool"], True),
        ("body|startswith", "connection", True),
        ("body|startswith", "con*tion", True),
        ("body|endswith", "3)", True),
        ("body|endswith", r"5\*3)", True),
        ("body|contains", r"\*", True),
        ("body", "*pool*", True),
        ("body|re", r"pool \w+ \(\d", True),
        ("body|re", "^pool", False),
        ("severity_number", 17, True),
        ("severity_number", [9, 17], True),
        ("severity_number|gte", 17, True),
        ("severity_number|gt", 17, False),
        ("severity_number|lt", 18, True),
        ("severity_number|lte", 16.5, False),
        ("host|cidr", "10.0.0.0/8", True),
        ("host|cidr", "10.2.0.0/16", False),
        ("service|cidr", "10.0.0.0/8", False),
        ("attributes.peer", "db\\\\1", True),
        ("attributes.peer", "db\\1", True),
        ("attributes.code|gte", 500, True),
        ("attributes.code", 503, True),
        ("attributes.none|gte", 500, False),
        ("attributes.none|exists", False, True),
        ("attributes.none|exists", True, False),
        ("attributes.code|exists", True, True),
        ("service|fieldref", "host", False),
        ("attributes.price", 1.10, True),
        ("attributes.price", "1.1", False),
        ("attributes.empty|exists", True, False),
        ("attributes.empty|exists", False, True),
        ("host|fieldref", "host", True),
        ("service|neq", "cart", False),
        ("service|neq", ["shop", "users"], True),
        ("service|neq", ["shop", "cart"], False),
        ("body|contains|all|neq", ["pool", "exhausted"], False),
        ("body|contains|all|neq", ["pool", "missing"], True),
        ("body|re|neq", "^pool", True),
        ("severity_number|gte|neq", 17, False),
        ("severity_number|neq", 9, True),
        ("attributes.none|neq", "x", True),
        ("attributes.empty|contains|neq", "x", True),
        ("attributes.none|gte|neq", 5, True),
        ("attributes.none|exists|neq", True, True),
        ("host|fieldref|neq", "service", True),
        ("resource.k8s.pod.name|startswith", "cart", True),
        ("resource.process.pid|exists", False, True),
        ("resource.k8s.pod.name|fieldref", "service", False),
    ],
)
def test_a_condition_holds(key: str, value: Any, holds: bool) -> None:
    conditions, faults = compile_conditions("log", [{key: value}])
    assert not faults
    assert conditions.hold(LOG) is holds


@pytest.mark.parametrize("text", ["5", "+5.0", "5.", ".5e1", "50E-1", "0" * 63 + "5"])
def test_text_that_is_a_decimal_number_is_compared_by_its_value(text: str) -> None:
    for key, value in (("attributes.x|gte", 5), ("attributes.x|lte", 5), ("attributes.x", 5)):
        conditions, _ = compile_conditions("log", [{key: value}])
        assert conditions.hold({"attributes.x": text})


@pytest.mark.parametrize(
    "text",
    [
        *(
            "nan",
            "inf",
            "-Infinity",
            "1e999",
            "1_000",
            " 12 ",
            "12\n",
            "１２",
            "٣",
            "0x10",
            "12ms",
            "1,5",
            "e",
            ".",
            "--1",
        ),
        *("1" * 65, "1" * 10_000),
    ],
)
def test_other_text_is_no_number_whatever_python_reads_in_it(text: str) -> None:
    for key in ("attributes.x|gt", "attributes.x|gte", "attributes.x|lt", "attributes.x|lte", "attributes.x"):
        for value in (12, 0, -1, 1_000):
            conditions, _ = compile_conditions("log", [{key: value}])
            assert not conditions.hold({"attributes.x": text}), (key, value)


def test_all_fields_of_a_map_must_hold_and_one_of_the_maps() -> None:
    both, _ = compile_conditions("log", [{"service": "cart", "severity_number|gte": 20}])
    either, _ = compile_conditions("log", [{"service": "shop"}, {"severity_number": 17}])
    assert not both.hold(LOG)
    assert either.hold(LOG)


def test_a_field_with_several_values_holds_by_one_of_them() -> None:
    conditions, _ = compile_conditions("insight", [{"host": "web-2"}])
    assert conditions.hold({"host": ("web-1", "web-2")})
    assert not conditions.hold({"host": ()})
    same, _ = compile_conditions("insight", [{"host|fieldref": "service"}])
    assert same.hold({"host": ("web", "CART"), "service": "cart"})


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("servce", "x", "did you mean service?"),
        ("attributes.", "x", "log has no field 'attributes.'"),
        ("resource.", "x", "log has no field 'resource.'; did you mean resource.NAME?"),
        ("body|contain", "x", "unknown modifier 'contain'; did you mean contains?"),
        ("body|gte", 5, "the field is text, found gte"),
        ("severity_number|contains", 1, "the field is a number, found contains"),
        ("severity_number", "error", "the field is a number, found 'error'"),
        ("severity_number|gte", True, "found True, expected a number"),
        ("severity_number|gte|all", [1, 2], "found all beside gte, expected it beside contains"),
        ("body|re", "(", "expected a regular expression of RE2: missing )"),
        ("body|re", "(?=a)", "expected a regular expression of RE2"),
        ("body|re", "a" * 1_001, "at most 1000 characters"),
        ("body|re", 5, "expected a regular expression"),
        ("body|exists", "yes", "expected true or false"),
        ("body|fieldref", "hots", "did you mean host?"),
        ("body|fieldref", 5, "expected the name of another field"),
        ("host|cidr", "10.0.0.1/8", "has host bits set"),
        ("host|cidr", 10, "expected a network"),
        ("body|contains|startswith", "x", "found contains and startswith, expected one of them"),
        ("service|fieldref|startswith", "host", "found fieldref and startswith"),
        ("body|re|cased", "x", "found cased beside re"),
        ("severity|neq", "ERR", "log has no severity 'ERR'; did you mean ERROR?"),
        ("service", [False, "se"], "expected quotes around text that looks like that"),
        ("severity", "ERR", "log has no severity 'ERR'; did you mean ERROR?"),
    ],
)
def test_what_cannot_hold_is_refused_with_what_to_write(key: str, value: Any, fault: str) -> None:
    _, faults = compile_conditions("log", [{key: value}])
    assert len(faults) == 1
    assert faults[0].startswith(f"{key}: ")
    assert fault in faults[0]


def test_an_expression_of_re2_takes_no_longer_for_text_on_which_others_backtrack() -> None:
    conditions, faults = compile_conditions("log", [{"body|re": "(a+)+$"}])
    assert not faults
    assert not conditions.hold({"body": "a" * 100_000 + "b"})
