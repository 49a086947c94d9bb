"""`reasoner explain`: one row for each record in order, as the job counts it, and for each rejection."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from operators.ingest.fold import FOLDS, FoldConfig
from reasoner.cli import main
from reasoner.recordings.read import sidecar
from reasoner.runs.explain import EXCEPTIONS_OVERFLOWED, Explained, Explainer, NotCounted, tables
from state_schemas.telemetry.message import KafkaPosition
from tests.support.otlp_forms import otlp_json
from udfs.logs.masking.masker import MaskSettings

MS = 1_000_000
NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
FLOURS = ("rye", "wheat", "spelt", "oat", "barley", "millet")
EXCEPTION = {"exception.type": "bakery.OvenCold", "exception.message": "oven 12 is at 40 C"}
ExceptionAttributes = dict[str, str]


def logs(*bodies: str, service: str = "oven", env: str = "prod", severity: int = 17) -> ExportLogsServiceRequest:
    """Return a request of log records, a millisecond apart, the last at NOW_MS."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    for key, value in (("service.name", service), ("deployment.environment.name", env)):
        group.resource.attributes.add(key=key).value.string_value = value
    scope = group.scope_logs.add()
    for index, body in enumerate(reversed(bodies)):
        record = scope.log_records.add(time_unix_nano=(NOW_MS - index) * MS, severity_number=severity)
        record.body.string_value = body
    scope.log_records.reverse()
    return request


def span(*exceptions: ExceptionAttributes, service: str = "oven", number: int = 1) -> ExportTraceServiceRequest:
    """Return a request of one span with these exceptions."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    for key, value in (("service.name", service), ("deployment.environment.name", "prod")):
        group.resource.attributes.add(key=key).value.string_value = value
    added = group.scope_spans.add().spans.add(trace_id=b"\x07" * 16, span_id=number.to_bytes(8, "big"), name="bake")
    added.start_time_unix_nano, added.end_time_unix_nano = (NOW_MS - 20) * MS, NOW_MS * MS
    for attributes in exceptions:
        event = added.events.add(name="exception", time_unix_nano=NOW_MS * MS)
        for key, value in attributes.items():
            event.attributes.add(key=key).value.string_value = value
    return request


def rows(*messages: Any, config: FoldConfig | None = None) -> list[Explained | NotCounted]:
    explainer = Explainer(config or FoldConfig())
    for message in messages:
        explainer.add(message if isinstance(message, bytes) else message.SerializeToString())
    return list(explainer.rows())


def explained(*messages: Any, config: FoldConfig | None = None) -> list[Explained]:
    found = rows(*messages, config=config)
    assert all(isinstance(row, Explained) for row in found), found
    return [row for row in found if isinstance(row, Explained)]


def short_of(flour: str) -> str:
    return f"the baker ran out of {flour} before the doors opened"


def test_a_log_record_is_explained_field_by_field() -> None:
    request = logs("bread for ada@bakery.example burnt at 10.0.0.7", severity=13)
    request.resource_logs[0].scope_logs[0].log_records[0].event_name = "bread.burnt"
    (row,) = explained(request)
    assert len(row.pattern_id) == 16
    assert asdict(row) | {"pattern_id": ""} == {
        "signal": "logs",
        "env": "prod",
        "namespace": "",
        "service": "oven",
        "severity_number": 13,
        "warning_or_worse": True,
        "event_name": "bread.burnt",
        "exception_type": "",
        "pattern_id": "",
        "template": "bread for <email> burnt at <ip>",
        "masked": ("ip", "email"),
        "line": "bread for <email> burnt at <ip>",
        "cut": False,
        "texts_repaired": 0,
    }


def test_a_line_below_warn_has_a_pattern_and_masks_but_no_sample_line() -> None:
    (row,) = explained(logs("tray 12 is ready", severity=9))
    assert (row.warning_or_worse, row.line, row.masked) == (False, "", ("number",))
    assert row.template == "tray <number> is ready"


def test_a_long_line_and_texts_that_are_not_utf8_are_marked() -> None:
    long, short = logs("bread " * 400), logs("caf\ue000")
    (row,) = explained(long)
    assert (row.cut, row.texts_repaired) == (True, 0)
    explainer = Explainer(FoldConfig())
    explainer.add(short.SerializeToString().replace("\ue000".encode(), b"\xe9\xe9\xe9"))
    (row,) = (row for row in explainer.rows() if isinstance(row, Explained))
    assert (row.template, row.cut, row.texts_repaired) == ("caf\ufffd\ufffd\ufffd", False, 1)
    shown = "\n".join(tables([row]))
    assert "repaired   1 texts of its message were not UTF-8" in shown


def test_the_name_of_a_user_is_among_the_masks() -> None:
    (row,) = explained(logs("Accepted publickey for ada from 10.0.0.7 port 22"))
    assert row.masked == ("number", "ip", "user")


def test_masks_that_are_switched_off_do_not_appear() -> None:
    (row,) = explained(logs("oven 12 at 10.0.0.7"), config=FoldConfig(masks=MaskSettings(("ip",))))
    assert (row.masked, row.line) == (("ip",), "oven 12 at <ip>")


def test_an_exception_of_a_span_is_explained_as_the_same_exception_in_a_log_record() -> None:
    request = logs("")
    for key, value in EXCEPTION.items():
        request.resource_logs[0].scope_logs[0].log_records[0].attributes.add(key=key).value.string_value = value
    logged, recorded = explained(request, span(EXCEPTION))
    assert (logged.signal, recorded.signal) == ("logs", "traces")
    assert (recorded.exception_type, recorded.event_name) == ("bakery.OvenCold", "exception")
    assert recorded.line == logged.line == "bakery.OvenCold: oven <number> is at <number> C"
    assert (recorded.pattern_id, recorded.template, recorded.severity_number, recorded.masked) == (
        (logged.pattern_id, logged.template, 17, ("number",))
    )


def test_an_exception_without_a_usable_type_is_named_as_its_pattern_names_it() -> None:
    (row,) = explained(span({"exception.type": "not a type", "exception.message": "cold"}))
    assert (row.exception_type, row.line) == ("exception", "exception: cold")


def test_rows_have_the_order_of_the_messages_and_of_the_records_in_them() -> None:
    found = explained(logs("second", "third"), span(EXCEPTION), logs("first", severity=9))
    assert [row.template for row in found][:2] == ["second", "third"]
    assert [row.signal for row in found] == ["logs", "logs", "traces", "logs"]


def test_variants_of_a_line_get_the_id_and_template_that_the_registry_gives_them_in_the_end() -> None:
    found = explained(*(logs(short_of(flour)) for flour in FLOURS))
    assert len({row.pattern_id for row in found}) == 1
    assert {row.template for row in found} == {"the baker ran out of <*> before the doors opened"}
    assert [row.line for row in found] == [short_of(flour) for flour in FLOURS]


@pytest.mark.parametrize("other", [{"service": "shop"}, {"env": "test"}])
def test_variants_of_two_services_or_environments_are_not_joined(other: dict[str, str]) -> None:
    here, there = FLOURS[:3], FLOURS[3:]
    found = explained(logs(*map(short_of, here)), logs(*map(short_of, there), **other))  # type: ignore[arg-type]
    assert len({row.pattern_id for row in found}) == len(FLOURS)


def test_variants_below_warn_keep_their_own_ids_because_no_registry_holds_them() -> None:
    found = explained(logs(*map(short_of, FLOURS), severity=9))
    assert len({row.pattern_id for row in found}) == len(FLOURS)


def test_the_rows_add_up_to_what_the_fold_counts() -> None:
    """The counts are equal by service, severity and pattern, for messages without variants to join."""
    for signal, request in (
        ("logs", logs("tray 1 is ready", "tray 2 is ready", "the oven is cold", severity=17)),
        ("logs", logs("tray 3 is ready", severity=9)),
        ("traces", span(EXCEPTION, EXCEPTION, {"exception.message": "door open"})),
    ):
        data = request.SerializeToString()
        message = FOLDS[signal](FoldConfig()).fold(data, KafkaPosition(signal, 0, 0, NOW_MS)).message  # type: ignore[index]
        assert message is not None
        counted = {
            (lines.env, lines.service, pattern.severe, pattern.pattern_id): pattern.count
            for lines in message.logs
            for _, _, table in lines.windows
            for pattern in table.patterns
        }
        assert counted == Counter(
            (row.env, row.service, row.warning_or_worse, row.pattern_id) for row in explained(data)
        )


def test_records_without_a_time_are_rejected_and_the_others_explained() -> None:
    request = logs("one", "two", "three")
    for record in request.resource_logs[0].scope_logs[0].log_records[:2]:
        record.time_unix_nano = 0
    kept, rejected = rows(request)
    assert isinstance(kept, Explained)
    assert isinstance(rejected, NotCounted)
    assert kept.line == "three"
    assert (rejected.signal, rejected.reason, rejected.records) == ("logs", "no_time", 2)


def test_the_exception_of_a_rejected_span_is_not_explained() -> None:
    request = span(EXCEPTION)
    spans = request.resource_spans[0].scope_spans[0].spans
    spans.add().CopyFrom(spans[0])
    found = rows(request)
    assert [type(row) for row in found] == [Explained, NotCounted]
    assert asdict(found[1])["reason"] == "duplicate_span"


def test_exceptions_of_a_span_beyond_the_bound_are_counted() -> None:
    found = rows(span(*[EXCEPTION] * 11))
    assert sum(isinstance(row, Explained) for row in found) == 8
    assert [(row.reason, row.records) for row in found if isinstance(row, NotCounted)] == [(EXCEPTIONS_OVERFLOWED, 3)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"plain text", "malformed_protobuf"),
        (gzip.compress(b"{}", mtime=0), "malformed_protobuf"),
        (b'{"resourceSpans": 5}', "malformed_json"),
        (b'{"resourceLogs": [', "malformed_json"),
        (logs("cold").SerializeToString()[:-3], "malformed_protobuf"),
    ],
)
def test_bytes_that_are_no_request_are_one_row_with_the_reason(data: bytes, reason: str) -> None:
    explainer = Explainer(FoldConfig())
    explainer.add(data)
    (row,) = explainer.rows()
    assert isinstance(row, NotCounted)
    assert (row.reason, row.records, explainer.messages_read) == (reason, 0, 0)


def test_a_request_without_records_is_read_and_gives_no_row() -> None:
    explainer = Explainer(FoldConfig())
    explainer.add(b"{}")
    assert (list(explainer.rows()), explainer.messages_read) == ([], 1)


def test_points_of_metrics_have_no_row_but_those_that_are_rejected() -> None:
    points = [{"timeUnixNano": str(NOW_MS * MS), "asInt": "1"}, {"asInt": "2"}]
    metric = {"name": "oven.heat", "gauge": {"dataPoints": points}}
    (row,) = rows(json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode())
    assert isinstance(row, NotCounted)
    assert (row.signal, row.reason, row.records) == ("metrics", "no_time", 1)


def test_records_are_judged_against_the_timestamp_of_the_message_else_against_the_newest_of_them() -> None:
    data = logs("late bread").SerializeToString()
    explainer = Explainer(FoldConfig())
    explainer.add(data, NOW_MS - DAY_MS)
    explainer.add(data, NOW_MS + 8 * DAY_MS)
    explainer.add(data)
    first, second, third = explainer.rows()
    assert isinstance(first, NotCounted)
    assert isinstance(second, NotCounted)
    assert (first.reason, second.reason) == ("future", "too_old")
    assert isinstance(third, Explained)


# The command.


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """Run `reasoner explain WORDS`; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["reasoner", "explain", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_the_command_prints_a_json_object_for_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], packed: bool
) -> None:
    lines = [otlp_json(logs("oven 12 is cold")), b"no request", otlp_json(span(EXCEPTION))]
    data = b"\n".join(lines) + b"\n"
    file = tmp_path / "bakery.jsonl"
    file.write_bytes(b"{}\n" + data if not packed else gzip.compress(b"{}\n" + data))
    assert run(monkeypatch, file, "--json") == 0
    first, second, third = printed(capsys)
    assert list(first) == [
        *("service", "env", "severity_number", "warning_or_worse", "event_name", "exception_type"),
        *("pattern_id", "template", "masked", "line", "signal", "namespace", "cut", "texts_repaired"),
    ]
    assert (first["line"], first["masked"]) == ("oven <number> is cold", ["number"])
    assert list(second) == ["rejected", "detail", "records", "signal"]
    assert (second["rejected"], second["records"]) == ("malformed_protobuf", 0)
    assert third["exception_type"] == "bakery.OvenCold"


def test_the_kafka_timestamp_that_a_line_keeps_is_the_one_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bakery.jsonl"
    file.write_bytes(sidecar(NOW_MS + 8 * DAY_MS, 0) + otlp_json(logs("old bread"))[1:] + b"\n")
    assert run(monkeypatch, file, "--json") == 0
    assert [(row["rejected"], row["records"]) for row in printed(capsys)] == [("too_old", 1)]


def test_a_bin_file_is_one_message_with_its_bytes_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "message.bin"
    file.write_bytes(logs("oven 12\nis cold").SerializeToString())
    assert run(monkeypatch, file, "--json") == 0
    assert [row["line"] for row in printed(capsys)] == ["oven <number> is cold"]
    file.write_bytes(gzip.compress(file.read_bytes()))
    assert run(monkeypatch, file, "--json") == 1
    assert [row["rejected"] for row in printed(capsys)] == ["malformed_protobuf"]


def test_masks_of_the_job_are_taken_from_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, config = tmp_path / "message.bin", tmp_path / "job.yaml"
    file.write_bytes(logs("oven 12 at 10.0.0.7").SerializeToString())
    config.write_text("lake: {uri: 'jdbc:sqlite:x.db', warehouse: 'file:///x'}\ndetection: {masks: [ip]}\n")
    assert run(monkeypatch, file, "--json", "--config", config) == 0
    assert [row["line"] for row in printed(capsys)] == ["oven 12 at <ip>"]
    config.write_text("detection: {masks: [salt]}\n")
    assert run(monkeypatch, file, "--config", config) == 2
    assert "salt" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_ends_with_2_behind_what_could_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bakery.jsonl.gz"
    assert run(monkeypatch, file) == 2
    assert "no such file; expected a file of OTLP/JSON lines" in capsys.readouterr().err
    file.write_bytes(gzip.compress(otlp_json(logs("cold")) + b"\n" + b"\n" * 300_000)[:-8])
    assert run(monkeypatch, file, "--json") == 2
    shown = capsys.readouterr()
    assert [json.loads(line)["line"] for line in shown.out.splitlines()] == ["cold"]
    assert "bakery.jsonl.gz:" in shown.err
    assert "cannot be read" in shown.err


def test_the_text_output_escapes_control_characters_of_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bakery.jsonl"
    request = logs("oven 12 is [red]cold")
    request.resource_logs[0].scope_logs[0].log_records[0].event_name = "oven\x1b[2Jcold\u202e"
    file.write_bytes(otlp_json(request) + b"\nno request\n")
    assert run(monkeypatch, file) == 0
    out = capsys.readouterr().out
    assert "log record of oven in prod: severity 17, WARN or worse\n" in out
    assert "  event      oven\\x1b[2Jcold\\u202e\n" in out
    assert "  line       oven <number> is [red]cold\n" in out
    assert "rejected as malformed_protobuf, a message of logs\n" in out
    assert out.endswith("\nlog records: 1, rejected as malformed_protobuf: 1\n")


def test_the_command_loads_no_module_of_the_engine(tmp_path: Path) -> None:
    file = tmp_path / "message.bin"
    file.write_bytes(span(EXCEPTION).SerializeToString())
    code = (
        "import sys\nfrom reasoner.cli import main\n"
        "try:\n    main()\nfinally:\n    print(sorted(name for name in sys.modules if name.startswith('pyflink')))"
    )
    words = [sys.executable, "-c", code, "explain", str(file), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    row, engine = done.stdout.splitlines()
    assert (json.loads(row)["exception_type"], engine) == ("bakery.OvenCold", "[]")
