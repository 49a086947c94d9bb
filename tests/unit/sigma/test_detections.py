"""Detections of Sigma: what each modifier becomes, and what is refused with which reason."""

from typing import Any

import pytest

from reasoner.sigma.documents import sigma_of
from reasoner.sigma.mapping import read_mapping
from reasoner.sigma.refused import Refused
from reasoner.sigma.rules import of_detection
from tests.support.sigma import MAPPING, conditions_of, plain

PATH = "attributes.process.executable.path"
LINE = "attributes.process.command_line"
USER = "attributes.process.owner"
WHERE = {f"{PATH}|exists": True}


def of_selection(selection: Any) -> list[Any]:
    """Return the conditions of a selection, without that of the log source."""
    found = conditions_of(plain({"selection": selection, "condition": "selection"}))
    return [{key: values for key, values in condition.items() if key not in WHERE} for condition in found]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("CommandLine", "a*b", {LINE: "a*b"}),
        ("CommandLine", "*a", {f"{LINE}|endswith": "a"}),
        ("CommandLine", "*", {LINE: "*"}),
        ("CommandLine|contains", ["a", "b?c"], {f"{LINE}|contains": ["a", "b?c"]}),
        ("CommandLine|contains", r"C:\\dir\*", {f"{LINE}|contains": r"C:\\dir\*"}),
        ("CommandLine|startswith", "a", {f"{LINE}|startswith": "a"}),
        ("CommandLine|contains|all", ["a", "b"], {f"{LINE}|contains|all": ["a", "b"]}),
        ("CommandLine|contains|cased", "Ab", {f"{LINE}|contains|cased": "Ab"}),
        ("CommandLine|cased", "Ab", {f"{LINE}|cased": "Ab"}),
        ("CommandLine|re", r"a\d+", {f"{LINE}|re": r"a\d+"}),
        ("CommandLine|re|i|m|s", "^a.b", {f"{LINE}|re": "(?ims)^a.b"}),
        ("CommandLine|re", ["a", "b"], {f"{LINE}|re": ["a", "b"]}),
        ("CommandLine|cidr", "10.0.0.0/8", {f"{LINE}|cidr": "10.0.0.0/8"}),
        ("ProcessId|gte", 5, {"attributes.process.pid|gte": 5}),
        ("ProcessId|gt", 5, {"attributes.process.pid|gt": 5}),
        ("ProcessId|lt", 5, {"attributes.process.pid|lt": 5}),
        ("ProcessId|lte", 5.5, {"attributes.process.pid|lte": 5.5}),
        ("ProcessId", [5, 6], {"attributes.process.pid": [5, 6]}),
        ("ProcessId|neq", [5, 6], {"attributes.process.pid|neq": [5, 6]}),
        ("CommandLine", True, {LINE: "true"}),
        ("User|exists", True, {f"{USER}|exists": True}),
        ("User|exists|neq", True, {f"{USER}|exists": False}),
        ("User|fieldref", "CommandLine", {f"{USER}|fieldref": LINE}),
        ("CommandLine|contains|neq", ["a", "b"], {f"{LINE}|contains|neq": ["a", "b"]}),
        ("CommandLine|contains|all|neq", ["a", "b"], {f"{LINE}|contains|all|neq": ["a", "b"]}),
        ("CommandLine|base64", "foobar", {LINE: "Zm9vYmFy"}),
        ("CommandLine|base64offset|contains", "foobar", {f"{LINE}|contains": ["Zm9vYmFy", "Zvb2Jhc", "mb29iYX"]}),
        ("CommandLine|wide|base64", "ab", {LINE: "YQBiAA=="}),
        ("CommandLine|windash|contains", " -a", {f"{LINE}|contains": [f" {dash}a" for dash in "-/–—―"]}),
        ("CommandLine|windash|contains|neq", " -a", {f"{LINE}|contains|neq": [f" {dash}a" for dash in "-/–—―"]}),
    ],
)
def test_a_modifier_becomes_one_of_the_notation(key: str, value: Any, expected: dict[str, Any]) -> None:
    assert of_selection({key: value}) == [expected]


def test_values_of_an_expansion_are_alternatives_even_with_all() -> None:
    found = of_selection({"CommandLine|windash|contains|all": [" -a", " -b"]})
    assert len(found) == 5
    assert found[0] == {f"{LINE}|contains": [f" {dash}a" for dash in "-/–—―"], f"{LINE}|contains|all": " -b"}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("one and not two", [{PATH: "a", f"{LINE}|neq": "b", f"{USER}|neq": ["c", "d"]}]),
        ("not (one or two)", [{f"{PATH}|neq": "a", f"{LINE}|neq": "b", f"{USER}|neq": ["c", "d"]}]),
        ("one and not both", [{PATH: "a", f"{LINE}|neq": "b"}, {PATH: "a", f"{USER}|neq": "c"}]),
        ("one or two", [{PATH: "a"}, {LINE: "b"}, {USER: ["c", "d"]}]),
        ("1 of t*", [{LINE: "b"}, {USER: ["c", "d"]}]),
        ("one and not one", [{PATH: "a", f"{PATH}|neq": "a"}]),
        (["one", "both"], [{PATH: "a"}, {LINE: "b", USER: "c"}]),
        (
            "two and lists",
            [{LINE: "b", f"{USER}|contains": ["e", "f"]}, {USER: ["c", "d"], f"{USER}|contains": ["e", "f"]}],
        ),
        ("lists and others", [{f"{USER}|contains": ["e", "f"], f"{USER}|contains|all": value} for value in ("g", "h")]),
        (
            "not all of them",
            [
                {f"{PATH}|neq": "a"},
                {f"{LINE}|neq": "b", f"{USER}|neq": ["c", "d"]},
                {f"{LINE}|neq": "b"},
                {f"{USER}|neq": "c"},
                {f"{USER}|contains|neq": ["e", "f"]},
                {f"{USER}|contains|neq": ["g", "h"]},
            ],
        ),
    ],
)
def test_a_condition_becomes_alternatives_and_a_negation_goes_to_the_fields(condition: Any, expected: Any) -> None:
    detections = {
        "one": {"Image": "a"},
        "two": [{"CommandLine": "b"}, {"User": ["c", "d"]}],
        "both": {"CommandLine": "b", "User": "c"},
        "lists": {"User|contains": ["e", "f"]},
        "others": {"User|contains": ["g", "h"]},
    }
    found = conditions_of(plain({**detections, "condition": condition}))
    assert [{key: value for key, value in part.items() if key not in WHERE} for part in found] == expected
    assert all(WHERE.items() <= part.items() for part in found)


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        ({"Imagee": "a"}, "the mapping has no field 'Imagee' for log source category process_creation, product linux"),
        ({"Image": None}, "Image: null is no value here"),
        ({"Image": ""}, "Image: the empty text is no value here"),
        ({"Image|contains": ["a", ""]}, None),
        ({"Image|re": "(?=a)b"}, "Regular expression '(?=a)b' is invalid"),
        ({"Image|re": r"(a)\1"}, "is invalid"),
        ({"Image|re": "a" * 1_001}, "at most 1000 characters"),
        ({"Image|expand": "%admins%"}, "Image: found a placeholder"),
        ({"Image|fieldref|startswith": "User"}, "fieldref with contains, startswith or endswith"),
        ({"Image|hour": 5}, "found SigmaTimestampPart"),
        ({"Image|nothing": "a"}, "Unknown modifier"),
        ({"Image|contains": 5}, "incompatible to value type"),
        ({"Image|cidr": "10.0.0.1/8"}, "has host bits set"),
        ({"Image": "a" * 2_001}, "expected text of at most 2000 characters"),
        ({"ProcessId|gte": 10**15}, "expected text of at most 2000 characters or a number"),
        ({"CommandLine|contains|neq": [f"{n}" for n in range(21)]}, "has 21 values that all count"),
        (["a word"], "keywords of log source category process_creation, product linux can be in any field"),
        ({"Image": {"a": "b"}}, "is no Sigma rule"),
        ({}, "Detection is empty"),
    ],
)
def test_what_cannot_be_said_is_refused_with_the_reason(selection: Any, reason: str | None) -> None:
    if reason is None:  # text with a wildcard alone is any text
        assert of_selection(selection) == [{f"{PATH}|contains": "a"}, {PATH: "*"}]
        return
    with pytest.raises(Refused) as refused:
        of_selection(selection)
    assert reason in str(refused.value)


def test_more_values_than_a_field_has_are_divided_among_alternatives() -> None:
    found = of_selection({"Image": [f"{n}" for n in range(45)]})
    assert [len(part[PATH]) for part in found] == [20, 20, 5]


def test_too_many_alternatives_are_refused_before_they_are_built() -> None:
    """Ten maps of four fields that must all not hold are 4 ** 10 alternatives."""
    fields = ("Image", "CommandLine", "User", "ProcessId")
    filters = {f"filter_{n}": {name: f"{n}{name}" for name in fields} for n in range(10)}
    with pytest.raises(Refused, match="alternatives, a part has at most 20"):
        conditions_of(plain({**filters, "condition": "not 1 of filter_*"}))


KEYWORDS = {"logsource": {"product": "linux", "service": "sshd"}}


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        (["a", "b*c"], {"body|contains": ["a", "b*c"]}),
        ({"|all": ["a", 5]}, {"body|contains|all": ["a", "5"]}),
        ({"|cased": "A"}, {"body|contains|cased": "A"}),
        ({"|re": "a+"}, {"body|re": "a+"}),
    ],
)
def test_keywords_are_looked_for_where_the_mapping_says_that_the_event_is(keywords: Any, expected: Any) -> None:
    found = conditions_of(plain({"keywords": keywords, "condition": "keywords"}, **KEYWORDS))
    assert found == [{**expected, "attributes.appname|startswith": "sshd"}]


@pytest.mark.parametrize(
    ("logsource", "reason"),
    [
        ({"product": "windows"}, "the mapping has no log source product windows; add it with --mapping"),
        ({"product": "linux", "category": "process_creation", "vendor": "x"}, "the log source has vendor"),
        ({}, "Sigma log source can't be empty"),
    ],
)
def test_a_log_source_that_is_not_known_is_refused(logsource: Any, reason: str) -> None:
    document = plain({"selection": {"Image": "a"}, "condition": "selection"})
    with pytest.raises(Refused, match=reason):
        conditions_of({**document, "logsource": logsource})


def test_a_rule_keeps_its_id_title_level_author_and_references() -> None:
    known = {
        "id": "8d6b7b1c-5a4e-4b0e-9d2f-0c1d2e3f4a5b",
        "level": "critical",
        "author": "Operations",
        "description": "It happens.",
        "references": ["https://example.org/1"],
        "logsource": {"product": "linux", "category": "process_creation", "definition": "With arguments"},
        "falsepositives": ["Tests"],
        "tags": ["no namespace"],
    }
    rule = of_detection(_sigma(plain({"selection": {"Image": "a"}, "condition": "selection"}, **known)), MAPPING)
    named = {name: rule.document[name] for name in ("id", "version", "title", "by", "severity")}
    assert named == {
        "id": "sigma-8d6b7b1c-5a4e-4b0e-9d2f-0c1d2e3f4a5b",
        "version": 1,
        "title": "A rule",
        "by": "host",
        "severity": "critical",
    }
    lines = rule.document["description"].splitlines()
    assert lines == [
        "Sigma rule 8d6b7b1c-5a4e-4b0e-9d2f-0c1d2e3f4a5b: A rule (level critical)",
        "Author: Operations",
        "It happens.",
        "Log source: With arguments",
        "False positives: Tests",
        "References: https://example.org/1",
    ]


def test_a_rule_without_an_id_gets_one_of_what_it_says() -> None:
    def id_of(value: str) -> Any:
        document = plain({"selection": {"Image": value}, "condition": "selection"})
        return of_detection(_sigma(document), MAPPING).document["id"]

    assert id_of("a") == id_of("a") != id_of("b")


def test_a_long_description_is_cut_and_the_source_is_kept() -> None:
    document = plain({"selection": {"Image": "a"}, "condition": "selection"}, description="x" * 5_000)
    text = of_detection(_sigma(document), read_mapping()).document["description"]
    assert len(text) == 4_000
    assert text.startswith("Sigma rule without an id: A rule")


def _sigma(document: dict[str, Any]) -> Any:
    return sigma_of(document)
