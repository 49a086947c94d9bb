"""`reasoner rules`: all faults with file and line, and what a folder of rules has."""

import json
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.pool_lines import POOL, START_NS, line
from tests.unit.rules.hostile import GOOD


def test_good_rules_are_counted_and_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    assert run(monkeypatch, "rules", "check", str(tmp_path)) == 0
    assert capsys.readouterr().out == "1 rules, no fault\n"
    assert run(monkeypatch, "rules", "list", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["a-rule", "1", "service", "a", ">", "b", "t"]
    assert run(monkeypatch, "rules", "list", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["within"] == "10m"


def test_faults_are_printed_with_file_and_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("by: service", "by: pod").replace("body|contains", "bdoy"))
    assert run(monkeypatch, "rules", "check", str(file)) == 1
    said = capsys.readouterr().err
    assert f"{file}:4: by: found 'pod'" in said, "the conditions are checked once the rule is one"
    file.write_text(GOOD.replace("body|contains", "bdoy"))
    assert run(monkeypatch, "rules", "list", str(file)) == 1
    assert f"{file}:9: a-rule: step b: bdoy: log has no field 'bdoy'; did you mean body?" in capsys.readouterr().err


def test_the_schema_is_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "rules", "schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Rule"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Return a recording in which `cart` has both steps, `shop` the first alone, and `users` the other way round."""
    lines = [
        line("users", 0, "request timed out after 30 s"),
        *(line(service, 10, "connection pool exhausted") for service in ("cart", "shop", "users")),
        line("cart", 50, "request timed out after 30 s"),
        line("other", 86_400, "a day later"),
    ]
    folder = tmp_path / "recording"
    folder.mkdir()
    (folder / "logs.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_a_backtest_says_what_would_have_matched_and_how_far_the_signals_came(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, recording: Path
) -> None:
    rules = tmp_path / "pool.yaml"
    rules.write_text(POOL)
    assert run(monkeypatch, "rules", "backtest", str(rules), "--data", str(recording), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rule"], found["insights"], found["per_day"]) == ("pool-then-timeout@3", 1, 1.0)
    assert found["signals"] == {"pool": 3, "timeout": 2}
    assert found["in_order"] == {"pool": 3, "timeout": 1}
    (match,) = found["matches"]
    assert match["service"] == "cart"
    assert run(monkeypatch, "rules", "backtest", str(rules), "--data", str(recording)) == 0
    assert "pool 3, 3; timeout 2, 1" in capsys.readouterr().out


def test_a_replay_with_rules_has_their_insights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, recording: Path
) -> None:
    rules = tmp_path / "pool.yaml"
    rules.write_text(POOL)
    assert run(monkeypatch, "replay", str(recording), "--rules", str(rules)) == 0
    kinds = [json.loads(found)["kind"] for found in capsys.readouterr().out.splitlines()]
    assert kinds.count("sequence_match") == 1
    rules.write_text(POOL.replace("body|contains", "bdoy|contains"))
    assert run(monkeypatch, "replay", str(recording), "--rules", str(rules)) == 2
    assert "did you mean body?" in capsys.readouterr().err


CALLER = """id: caller-fails-too
version: 1
title: an error goes on to a caller
by: env
within: 5m
steps:
  - {name: failed, span: {service: cart, kind: server, status: error}}
  - {name: caller, span: {kind: server, status: error}, calls: $failed}
"""


def span(service: str, at_s: int, number: int, parent: int = 0, *, is_client: bool = False, fails: bool = False) -> str:
    """Return a line of a recording with one span of 10 ms; those of one call have a trace in common."""
    end_ns = START_NS + at_s * 10**9
    found = {
        "traceId": f"{at_s + 1:032x}",
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": "GET /",
        "kind": 3 if is_client else 2,
        "startTimeUnixNano": str(end_ns - 10**7),
        "endTimeUnixNano": str(end_ns),
        "status": {"code": 2} if fails else {},
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [found]}]}]})


def test_which_service_calls_which_is_read_from_the_spans(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = [
        span("checkout", 0, 1, is_client=True),
        span("cart", 0, 2, parent=1),
        span("cart", 30, 3, fails=True),
        span("shop", 40, 4, fails=True),
        span("checkout", 50, 5, fails=True),
        span("other", 600, 6),
    ]
    (tmp_path / "traces.jsonl").write_text("\n".join(lines) + "\n")
    rules = tmp_path / "caller.yaml"
    rules.write_text(CALLER)
    data = ("--data", str(tmp_path / "traces.jsonl"))
    assert run(monkeypatch, "rules", "backtest", str(rules), *data, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [match["title"].partition(", ")[2] for match in found["matches"]] == ["caller +20 s (checkout calls cart)"]
    assert found["signals"] == {"failed": 1, "caller": 3}
    assert found["in_order"] == {"failed": 1, "caller": 1}
