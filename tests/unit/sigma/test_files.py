"""Files of Sigma rules: hostile ones cost no more than their length, and each document has an outcome."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.sigma.documents import sigma_of
from reasoner.sigma.files import Outcome, import_sigma
from reasoner.sigma.refused import Refused
from tests.support.sigma import MAPPING, plain
from tests.unit.rules.hostile import FILES, Hostile

GOOD = plain({"selection": {"Image": "a"}, "condition": "selection"})


def outcomes_of(tmp_path: Path, *documents: Any) -> list[Outcome]:
    file = tmp_path / "sigma.yml"
    file.write_text(yaml.dump_all(documents, sort_keys=False))
    return import_sigma([file], MAPPING)


@pytest.mark.parametrize("hostile", FILES[:31], ids=lambda hostile: hostile.name)
def test_a_hostile_file_is_refused(hostile: Hostile, tmp_path: Path) -> None:
    """They are those of rule files that are wrong YAML or no rule: the limits of the YAML scanner act on both."""
    file = tmp_path / "sigma.yml"
    file.write_bytes(hostile.data)
    found = import_sigma([file], MAPPING)
    assert {outcome.status for outcome in found} == {"refused"}
    assert all(0 < len(outcome.reason) < 400 for outcome in found)


def changed(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


def selecting(key: str, value: Any) -> dict[str, Any]:
    return plain({"selection": {key: value}, "condition": "selection"})


def under(condition: Any) -> dict[str, Any]:
    return plain({"selection": {"Image": "a"}, "condition": condition})


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (selecting("Image" + "|wide" * 40, "a"), "found 40 modifiers, expected at most 6, each once"),
        (selecting("Image|base64offset|base64offset", "a"), "found 2 modifiers, expected at most 6, each once"),
        (selecting("Image|re|startswith", "a"), "startswith beside re; write ^ or $"),
        (selecting("Image|windash", "-a -b -c -d"), "windash modifier expands at most three"),
        (selecting("Image|re", "(a{1000}){1000}"), "is invalid"),
        (under("(" * 60 + "selection" + ")" * 60), "or 50 times `(` and `not`"),
        (under("not " * 490 + "selection"), "or 50 times `(` and `not`"),
        (under("selection and " * 300 + "selection"), "has more than 2000 characters"),
        (under("selection | count() > 5"), "pipe syntax"),
        (under("selection and"), "found end of text"),
        (under("1 of other_*"), "doesn't match any detection"),
        (under(None), ""),
        (under([["selection"]]), ""),
        (under(5), ""),
        (plain({"selection": {"Image": "a"}, "timeframe": "5m", "condition": "selection"}), "timeframe is deprecated"),
        (changed(detection=[1]), "Sigma detection must be a valid YAML map"),
        (changed(detection=None), ""),
        (changed(logsource="linux"), "Sigma logsource must be a valid YAML map"),
        (changed(title=5), "title must be a string"),
        (changed(title=None), "must have a title"),
        (changed(id=5), "is no Sigma rule"),
        (changed(id="no uuid"), "must be an UUID"),
        (changed(level="highest"), "not a valid Sigma rule level"),
        (changed(taxonomy="other"), "taxonomy 'other'"),
        (changed(action="global"), "action 'global' of rule collections is deprecated"),
        ({"title": "A", "correlation": 5}, "must be a dict"),
        ({"title": "A", "logsource": GOOD["logsource"], "filter": 5}, ""),
        (changed(correlation={"type": "temporal"}), "found detection and correlation, expected one of them"),
        ([GOOD], "is no Sigma rule: expected a map"),
        ("text", "is no Sigma rule: expected a map"),
    ],
)
def test_a_document_that_is_no_rule_or_costs_too_much_is_refused(tmp_path: Path, document: Any, reason: str) -> None:
    (found,) = outcomes_of(tmp_path, document)
    assert found.status == "refused"
    assert reason in found.reason
    assert 0 < len(found.reason) < 400


def test_documents_are_refused_one_by_one(tmp_path: Path) -> None:
    found = outcomes_of(tmp_path, selecting("Other", "a"), GOOD, "text", {**GOOD, "title": "B", "name": "b"})
    assert [outcome.status for outcome in found] == ["refused", "imported", "refused", "imported"]
    assert [outcome.line for outcome in found] == sorted(outcome.line for outcome in found)


def test_a_rule_that_comes_twice_is_refused(tmp_path: Path) -> None:
    first, second, third = outcomes_of(tmp_path, GOOD, GOOD, changed(name=GOOD["title"]))
    assert (first.status, second.status, third.status) == ("imported", "refused", "imported")
    assert "is the id or name of a rule before it" in second.reason


@pytest.mark.parametrize(
    ("dates", "version"),
    [
        ({}, 1),
        ({"date": "2023-09-03"}, 20230903),
        ({"date": "2023/9/3"}, 20230903),
        ({"date": "2023-09-03", "modified": "2024-01-31"}, 20240131),
        ({"date": "2025-01-01", "modified": "2024-01-31"}, 20250101),
        ({"date": 20230903}, 20230903),
        ({"date": "2023-09-03", "modified": None}, 20230903),
    ],
)
def test_the_version_of_a_rule_is_the_day_of_its_last_change(
    dates: dict[str, Any], version: int, tmp_path: Path
) -> None:
    (outcome,) = outcomes_of(tmp_path, changed(**dates))
    assert outcome.rule is not None
    assert outcome.rule.document["version"] == version


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modified", "2026-02-30"),
        ("modified", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("modified", "9" * 10_000),
        ("modified", ""),
        ("date", "0000-00-00"),
        ("date", ["2023-09-03"]),
    ],
)
def test_a_change_at_what_is_no_day_is_refused(name: str, value: object, tmp_path: Path) -> None:
    """Under the version of another day, or under 1, a job would keep the rule that it has."""
    (outcome,) = outcomes_of(tmp_path, changed(**{"date": "2023-09-03", name: value}))
    assert outcome.status == "refused"
    assert outcome.reason.startswith(f"{name}: found ")
    assert "expected a day such as 2026-01-31" in outcome.reason


def test_the_version_of_a_correlation_and_of_a_filtered_rule_is_that_of_its_newest_part(tmp_path: Path) -> None:
    one, two, other = (
        changed(name=name, title=name, date=f"2024-01-0{day}") for day, name in enumerate(("one", "two", "other"), 1)
    )
    only = {
        "title": "Without root",
        "modified": "2024-01-09",
        "logsource": GOOD["logsource"],
        "filter": {"rules": ["one"], "root": {"User": "root"}, "condition": "not root"},
    }
    correlated = {"type": "temporal", "rules": ["two", "other"], "timespan": "5m", "generate": True}
    both = {"title": "Both", "date": "2024-01-01", "correlation": correlated}
    found = [outcome.rule.document for outcome in outcomes_of(tmp_path, one, two, other, both, only) if outcome.rule]
    assert [(rule["title"], rule["version"]) for rule in found] == [
        ("one", 20240109),
        ("two", 20240102),
        ("other", 20240103),
        ("Both", 20240103),
    ]


def test_a_filter_is_applied_to_the_rules_that_it_names(tmp_path: Path) -> None:
    names = [changed(name=name, title=name) for name in ("one", "two")]
    of_one = {
        "title": "No root",
        "logsource": GOOD["logsource"],
        "filter": {"rules": ["one"], "root": {"User": "root"}, "condition": "not root"},
    }
    one, two, applied = outcomes_of(tmp_path, *names, of_one)
    assert applied.status == "part"
    assert one.rule is not None
    assert two.rule is not None
    assert one.rule.document["steps"][0]["log"]["attributes.process.owner|neq"] == "root"
    assert "attributes.process.owner|neq" not in two.rule.document["steps"][0]["log"]
    again = outcomes_of(tmp_path, *names, of_one)[0].rule
    assert again == one.rule, "pySigma gives the parts of a filter random names"


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (found,) = import_sigma([tmp_path / "none.yml"], MAPPING)
    assert (found.status, found.line) == ("refused", 0)
    assert "cannot be read" in found.reason


def test_a_map_inside_a_list_is_read_for_its_modifiers() -> None:
    document = plain({"selection": [{"Image|wide|wide": "a"}], "condition": "selection"})
    with pytest.raises(Refused, match="found 2 modifiers"):
        sigma_of(document)


def test_a_rule_whose_filter_is_refused_is_refused_too(tmp_path: Path) -> None:
    of_one = {
        "title": "No root",
        "logsource": GOOD["logsource"],
        "filter": {"rules": ["one"], "root": {"User": "root"}, "condition": "not root", "timeframe": "5m"},
    }
    names = [changed(name=name, title=name) for name in ("one", "two")]
    one, two, refused = outcomes_of(tmp_path, *names, of_one)
    assert (one.status, two.status, refused.status) == ("refused", "imported", "refused")
    assert one.reason == "a filter of one is refused"


def test_an_import_says_what_it_looks_at_beyond_its_log_source(tmp_path: Path) -> None:
    wide, exact = outcomes_of(
        tmp_path,
        changed(name="wide", title="wide", logsource={**GOOD["logsource"], "service": "pam"}),
        changed(name="exact", title="exact"),
    )
    assert (wide.status, exact.reason) == ("imported", "")
    assert wide.reason.endswith(": the mapping does not know service pam")
