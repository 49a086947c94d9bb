"""`reasoner rules import-sigma`: what it prints and writes, its exit codes, and what imported rules match."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.commands import run
from tests.support.sigma import plain
from udfs.rules import document

GOOD = plain(
    {"selection": {"Image|endswith": "/nc"}, "condition": "selection"},
    title="Net cat",
    id="8d6b7b1c-5a4e-4b0e-9d2f-0c1d2e3f4a5b",
)
BAD = plain({"selection": {"Other": "a"}, "condition": "selection"}, title="Other field")
START_NS = 1_700_000_000_000_000_000


def test_imported_rules_are_printed_as_a_file_in_which_check_finds_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.yml").write_text(yaml.dump(GOOD))
    (tmp_path / "b.yml").write_text(yaml.dump({**GOOD, "id": None, "title": "Second"}))
    assert run(monkeypatch, "rules", "import-sigma", str(tmp_path)) == 0
    said = capsys.readouterr()
    assert said.err == "2 imported, 0 are parts of others, 0 refused\n"
    rules = tmp_path / "rules.yaml"
    rules.write_text(said.out)
    assert run(monkeypatch, "rules", "check", str(rules)) == 0
    assert capsys.readouterr().out == "2 rules, no fault\n"


def test_what_is_refused_is_named_with_its_reason_and_the_others_are_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, folder = tmp_path / "a.yml", tmp_path / "rules"
    file.write_text(yaml.dump_all([BAD, GOOD]))
    assert run(monkeypatch, "rules", "import-sigma", str(file), "--output", str(folder)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "1 imported, 0 are parts of others, 1 refused:" in said.err
    assert f"{file}:1: Other field: the mapping has no field 'Other'" in said.err
    assert [path.name for path in folder.iterdir()] == ["sigma-8d6b7b1c-5a4e-4b0e-9d2f-0c1d2e3f4a5b.yaml"]
    assert run(monkeypatch, "rules", "check", str(folder)) == 0


def test_json_has_one_object_for_each_sigma_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "a.yml"
    file.write_text(yaml.dump_all([BAD, GOOD]))
    assert run(monkeypatch, "rules", "import-sigma", str(file), "--json") == 1
    refused, imported = map(json.loads, capsys.readouterr().out.splitlines())
    assert (refused["status"], refused["title"], refused["rule"]) == ("refused", "Other field", None)
    assert (imported["status"], imported["sigma_id"]) == ("imported", GOOD["id"])
    assert imported["rule"]["steps"][0]["log"]["attributes.process.executable.path|endswith"] == "/nc"


def test_a_mapping_adds_a_field_and_a_wrong_one_is_wrong_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, mapping = tmp_path / "a.yml", tmp_path / "mapping.yaml"
    file.write_text(yaml.dump(BAD))
    entry = {"logsource": BAD["logsource"], "fields": {"Other": "attributes.other"}}
    mapping.write_text(yaml.dump({"sources": [entry]}))
    assert run(monkeypatch, "rules", "import-sigma", str(file), "--mapping", str(mapping)) == 0
    assert "attributes.other: a" in capsys.readouterr().out
    mapping.write_text("sources: 5")
    assert run(monkeypatch, "rules", "import-sigma", str(file), "--mapping", str(mapping)) == 2
    assert "1 fault in the mapping of Sigma fields" in capsys.readouterr().err


def test_more_rules_than_a_file_has_want_a_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(document, "RULES_MAX", 1)
    for title in ("first", "second"):
        (tmp_path / f"{title}.yml").write_text(yaml.dump({**GOOD, "id": None, "title": title}))
    assert run(monkeypatch, "rules", "import-sigma", str(tmp_path)) == 2
    assert "2 rules are more than one file has: use --output FOLDER" in capsys.readouterr().err


FAILED = {
    "title": "Failed",
    "name": "failed",
    "logsource": {"product": "linux", "service": "sshd"},
    "detection": {"keywords": ["Failed password"], "condition": "keywords"},
}
ACCEPTED = {**FAILED, "title": "Accepted", "name": "accepted"}
ACCEPTED = {**ACCEPTED, "detection": {"keywords": ["Accepted password"], "condition": "keywords"}}
BOTH = {"rules": ["failed", "accepted"]}
# Seconds, F: failed, A: accepted, and the attribute `hostname`.
STREAM = tuple[tuple[int, str, str], ...]


@pytest.mark.parametrize(
    ("correlation", "stream", "matches"),
    [
        (
            {"type": "event_count", "rules": "failed", "condition": {"gte": 3}},
            ((0, "F", ""), (30, "F", ""), (59, "F", "")),
            1,
        ),
        (
            {"type": "event_count", "rules": "failed", "condition": {"gte": 3}},
            ((0, "F", ""), (30, "F", ""), (90, "F", "")),
            0,
        ),
        (
            {"type": "event_count", "rules": "failed", "condition": {"gt": 3}},
            ((0, "F", ""), (30, "F", ""), (59, "F", "")),
            0,
        ),
        ({"type": "event_count", **BOTH, "condition": {"gte": 2}}, ((0, "F", ""), (30, "A", "")), 1),
        (
            {"type": "value_count", "rules": "failed", "condition": {"gte": 2, "field": "hostname"}},
            ((0, "F", "a"), (10, "F", "a"), (20, "F", "b")),
            1,
        ),
        (
            {"type": "value_count", "rules": "failed", "condition": {"gte": 2, "field": "hostname"}},
            ((0, "F", "a"), (10, "F", "a"), (20, "F", "")),
            0,
        ),
        ({"type": "temporal", **BOTH}, ((0, "A", ""), (30, "F", "")), 1),
        ({"type": "temporal", **BOTH}, ((0, "A", ""), (90, "F", "")), 0),
        ({"type": "temporal_ordered", **BOTH}, ((0, "F", ""), (30, "A", "")), 1),
        ({"type": "temporal_ordered", **BOTH}, ((0, "A", ""), (30, "F", "")), 0),
    ],
)
def test_an_imported_correlation_matches_what_sigma_means(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    correlation: dict[str, Any],
    stream: STREAM,
    matches: int,
) -> None:
    file, rules, recording = (tmp_path / name for name in ("sigma.yml", "rules", "recording"))
    wanted = {"title": "Correlated", "correlation": {"timespan": "1m", "group-by": ["Computer"], **correlation}}
    file.write_text(yaml.dump_all([wanted, FAILED, ACCEPTED]))
    run(monkeypatch, "rules", "import-sigma", str(file), "--output", str(rules))
    recording.mkdir()
    lines = (line(at_s, name, value) for at_s, name, value in (*stream, (86_400, "", "")))
    (recording / "logs.jsonl").write_text("\n".join(lines) + "\n")
    (rule,) = (path for path in rules.iterdir() if "Correlated" in path.read_text())
    capsys.readouterr()
    assert run(monkeypatch, "rules", "backtest", str(rule), "--data", str(recording), "--json") == 0
    assert json.loads(capsys.readouterr().out)["insights"] == matches


def line(at_s: int, name: str, value: str) -> str:
    """Return a line of a recording with one record of sshd."""
    body = {"F": "Failed password for root", "A": "Accepted password for root"}.get(name, "later")
    texts = {"appname": "sshd", **({"hostname": value} if value else {})}
    record = {
        "timeUnixNano": str(START_NS + at_s * 10**9),
        "body": {"stringValue": body},
        "attributes": [{"key": key, "value": {"stringValue": text}} for key, text in texts.items()],
    }
    named = {"service.name": "sshd", "host.name": "web-1"}
    resource = {"attributes": [{"key": key, "value": {"stringValue": text}} for key, text in named.items()]}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]})
