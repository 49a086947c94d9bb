"""Correlations of Sigma: what each type becomes, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reasoner.sigma.files import Outcome, import_sigma
from tests.support.sigma import MAPPING

SYSLOG = {"product": "linux", "service": "sshd"}
FAILED = {
    "title": "Login failed",
    "name": "failed",
    "logsource": SYSLOG,
    "detection": {"keywords": ["Failed password"], "condition": "keywords"},
}
ACCEPTED = {
    "title": "Login accepted",
    "name": "accepted",
    "logsource": SYSLOG,
    "detection": {"keywords": ["Accepted password"], "condition": "keywords"},
}
WEB = {
    "title": "Web",
    "name": "web",
    "logsource": {"category": "webserver"},
    "detection": {"selection": {"sc-status": 401}, "condition": "selection"},
}
SSHD = {"attributes.appname|startswith": "sshd"}
FAILED_PART = {"log": {"body|contains": "Failed password", **SSHD}}
ACCEPTED_PART = {"log": {"body|contains": "Accepted password", **SSHD}}


def outcome_of(tmp_path: Path, correlation: dict[str, Any], *rules: Any) -> Outcome:
    """Return what becomes of a correlation beside rules."""
    wanted = {"timespan": "5m", "group-by": ["Computer"], **correlation}
    file = tmp_path / "sigma.yml"
    documents = [{"title": "Correlated", "level": "high", "correlation": wanted}, *(rules or (FAILED, ACCEPTED, WEB))]
    file.write_text(yaml.dump_all(documents))
    return import_sigma([file], MAPPING)[0]


def document_of(tmp_path: Path, correlation: dict[str, Any]) -> dict[str, Any]:
    outcome = outcome_of(tmp_path, correlation)
    assert outcome.rule is not None, outcome.reason
    return outcome.rule.document


def test_event_count_is_a_step_that_counts(tmp_path: Path) -> None:
    found = document_of(tmp_path, {"type": "event_count", "rules": "failed", "condition": {"gt": 4}})
    assert (found["by"], found["within"], found["severity"]) == ("host", "300s", "critical")
    assert found["steps"] == [{"name": "correlated", **FAILED_PART, "count": ">= 5"}]


def test_one_event_is_not_counted_and_one_of_several_rules_is_an_alternative(tmp_path: Path) -> None:
    wanted = {"type": "event_count", "rules": ["failed", "accepted"], "condition": {"gte": 1}}
    assert document_of(tmp_path, wanted)["steps"] == [{"name": "correlated", "any_of": [FAILED_PART, ACCEPTED_PART]}]


def test_value_count_counts_the_values_of_records_that_have_one(tmp_path: Path) -> None:
    wanted = {"type": "value_count", "rules": ["failed"], "condition": {"gte": 3, "field": "hostname"}}
    (step,) = document_of(tmp_path, wanted)["steps"]
    assert (step["count"], step["distinct"]) == (">= 3", "attributes.hostname")
    assert step["log"]["attributes.hostname|exists"] is True


def test_temporal_is_a_step_of_which_all_parts_must_come(tmp_path: Path) -> None:
    found = document_of(tmp_path, {"type": "temporal", "rules": ["failed", "accepted"]})
    assert found["steps"] == [{"name": "correlated", "all_of": [FAILED_PART, ACCEPTED_PART]}]
    same = document_of(tmp_path, {"type": "temporal", "condition": "failed and accepted"})
    assert same["steps"] == found["steps"]


def test_temporal_ordered_is_a_step_for_each_rule(tmp_path: Path) -> None:
    found = document_of(tmp_path, {"type": "temporal_ordered", "rules": ["failed", "accepted", "failed"]})
    assert found["steps"] == [
        {"name": "failed", **FAILED_PART},
        {"name": "accepted", **ACCEPTED_PART},
        {"name": "failed-3", **FAILED_PART},
    ]


@pytest.mark.parametrize(
    ("group_by", "aliases", "by"),
    [
        (None, None, "env"),
        ([], None, "env"),
        ("Computer", None, "host"),
        (["hostname"], None, "attribute:hostname"),
        (["machine"], {"machine": {"failed": "hostname", "accepted": "hostname"}}, "attribute:hostname"),
    ],
)
def test_a_rule_is_by_the_field_of_group_by(tmp_path: Path, group_by: Any, aliases: Any, by: str) -> None:
    wanted = {"type": "temporal", "rules": ["failed", "accepted"], "group-by": group_by, "aliases": aliases}
    wanted = {name: value for name, value in wanted.items() if value is not None or name == "group-by"}
    assert document_of(tmp_path, wanted)["by"] == by


def test_rules_of_two_log_sources_are_joined_by_an_alias_of_one_attribute(tmp_path: Path) -> None:
    aliases = {"source": {"failed": "hostname", "web": "c-ip"}}
    wanted = {"type": "temporal", "rules": ["failed", "web"], "group-by": ["source"], "aliases": aliases}
    refused = outcome_of(tmp_path, wanted).reason
    assert "group-by gives attributes.client.address, attributes.hostname; a rule is by one field" in refused


COUNT = {"type": "event_count", "rules": ["failed"]}


@pytest.mark.parametrize(
    ("correlation", "reason"),
    [
        ({**COUNT, "condition": {"lt": 3}}, "condition lt 3; a step counts `gte` or `gt` a whole number"),
        ({**COUNT, "condition": {"eq": 3}}, "condition eq 3"),
        ({**COUNT, "condition": {"gte": 2.5}}, "condition gte 2.5"),
        ({**COUNT, "condition": {"gte": 0}}, "condition gte 0"),
        ({**COUNT, "condition": {"gte": 5_000}}, "expected '>= N' with N from 2 to 1000"),
        ({**COUNT, "condition": {"gte": 5, "field": "Computer"}}, "event_count with a field"),
        ({**COUNT, "condition": {"gte": 5}, "timespan": "2d"}, "timespan 2d: expected at most 24h"),
        ({**COUNT, "condition": {"gte": 5}, "timespan": "soon"}, "Timespan 'soon' is invalid"),
        ({**COUNT, "condition": {"gte": 5}, "group-by": ["Computer", "hostname"]}, "a rule is by one field"),
        ({**COUNT, "condition": {"gte": 5}, "group-by": ["user"]}, "the mapping has no field 'user'"),
        ({**COUNT, "condition": {"gte": 5}, "rules": ["none"]}, "rule 'none' is in none of the files"),
        ({**COUNT, "condition": {"gte": 5}, "rules": []}, "found no rule"),
        ({"type": "temporal", "rules": []}, "found no rule"),
        (
            {"type": "value_sum", "rules": ["web"], "condition": {"gt": 5, "field": "sc-bytes"}},
            "value_sum: rules count",
        ),
        (
            {"type": "value_count", "rules": ["failed"], "condition": {"gte": 2, "field": ["hostname", "facility"]}},
            "value_count of attributes.facility, attributes.hostname",
        ),
        ({"type": "temporal", "rules": ["failed", "accepted"], "condition": {"gte": 1}}, "expected that all match"),
        ({"type": "temporal", "condition": "failed or accepted"}, "expected rules with `and` between them"),
        ({"type": "temporal", "condition": "failed and not accepted"}, "expected rules with `and` between them"),
        (
            {"type": "temporal", "rules": ["failed", "accepted"], "group-by": ["x"], "aliases": {"x": {"failed": "a"}}},
            "the mapping has no field 'a'",
        ),
        (
            {
                "type": "temporal",
                "rules": ["failed", "accepted"],
                "group-by": ["x"],
                "aliases": {"x": {"failed": "hostname"}},
            },
            "alias 'x' has no field for rule 'accepted'",
        ),
        ({**COUNT, "condition": {"gte": 5}, "ordered": True}, "correlation.ordered: unknown name, expected type"),
        ({"type": "sometimes", "rules": ["failed"]}, "no valid Sigma correlation type"),
    ],
)
def test_a_correlation_that_cannot_be_said_is_refused(tmp_path: Path, correlation: Any, reason: str) -> None:
    outcome = outcome_of(tmp_path, correlation)
    assert outcome.status == "refused"
    assert reason in outcome.reason


def test_a_correlation_of_correlations_is_refused(tmp_path: Path) -> None:
    inner = {"title": "Inner", "name": "inner", "correlation": {**COUNT, "condition": {"gte": 5}, "timespan": "1m"}}
    outcome = outcome_of(tmp_path, {"type": "temporal", "rules": ["inner", "failed"]}, inner, FAILED)
    assert "rule 'inner' is a correlation itself" in outcome.reason


def test_a_rule_of_a_correlation_that_is_refused_names_the_rule(tmp_path: Path) -> None:
    broken = {**FAILED, "logsource": {"product": "windows"}}
    outcome = outcome_of(tmp_path, {**COUNT, "condition": {"gte": 5}}, broken)
    assert outcome.reason == "rule 'failed': the mapping has no log source product windows; add it with --mapping"


@pytest.mark.parametrize(("generate", "statuses"), [(False, ["imported", "part"]), (True, ["imported", "imported"])])
def test_a_rule_of_a_correlation_is_no_rule_by_itself_unless_it_says_so(
    tmp_path: Path, generate: bool, statuses: list[str]
) -> None:
    file = tmp_path / "sigma.yml"
    wanted = {**COUNT, "condition": {"gte": 5}, "timespan": "5m", "generate": generate}
    file.write_text(yaml.dump_all([{"title": "Many", "correlation": wanted}, FAILED]))
    outcomes = import_sigma([file], MAPPING)
    assert [outcome.status for outcome in outcomes] == statuses
    assert outcomes[1].reason == ("" if generate else "part of the correlation Many")
