"""Recordings are read completely, in order and lazily, in each format of the Collector's file exporter."""

import base64
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import zstandard
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from reasoner.errors import WrongUse
from reasoner.recordings import otlp_json
from reasoner.recordings import read as recordings
from reasoner.recordings.json_times import newest_ns
from reasoner.recordings.message import Message
from reasoner.recordings.read import BadLines, read, times_ns
from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.signals import SignalType
from tests.support.recorded import NEZHA
from udfs.otlp.decoder import SpanDecoder, decode_logs

needs_nezha = pytest.mark.skipif(not NEZHA.is_dir(), reason=f"recorded data is absent: {NEZHA}")

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"


def traces(*ends_ms: int, name: str = "GET /") -> dict[str, Any]:
    spans = [
        {"traceId": TRACE_ID, "spanId": SPAN_ID, "name": name, "kind": 2, "endTimeUnixNano": str(end_ms * 1_000_000)}
        for end_ms in ends_ms
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def logs(time_ms: int, observed_ms: int = 0) -> dict[str, Any]:
    record = {"timeUnixNano": str(time_ms * 1_000_000), "observedTimeUnixNano": str(observed_ms * 1_000_000)}
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}


def metrics(form: str, time_ms: int) -> dict[str, Any]:
    metric = {"name": "m", form: {"dataPoints": [{"timeUnixNano": str(time_ms * 1_000_000)}]}}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


def write(path: Path, *documents: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def read_all(*paths: Path) -> list[Message]:
    """Return all messages of recordings that have no bad line."""
    bad = BadLines()
    messages = list(read(paths, bad))
    assert bad == BadLines()
    return messages


def test_kind_and_timestamp_come_from_the_content_and_not_from_the_file_name(tmp_path: Path) -> None:
    documents = [traces(5, 9, 7), logs(11), logs(0, observed_ms=13)]
    forms = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
    documents += [metrics(form, 20 + index) for index, form in enumerate(forms)]

    messages = read_all(write(tmp_path / "logs.txt", *documents))

    kinds = ["traces", "logs", "logs", *["metrics"] * 5]
    assert [(m.topic_kind, m.timestamp_ms) for m in messages] == list(
        zip(kinds, [9, 11, 13, 20, 21, 22, 23, 24], strict=True)
    )
    assert [json.loads(m.value) for m in messages] == documents


@settings(max_examples=40)  # each writes files
@given(st.lists(st.lists(st.integers(1, 50), max_size=8).map(sorted), min_size=1, max_size=5))
def test_files_are_merged_by_time_then_name_then_line(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    expected = []
    for number, times_ms in enumerate(files):
        name = f"{number % 2}/{number}.jsonl"
        write(folder / name, *(traces(time_ms, name=f"{name}:{line}") for line, time_ms in enumerate(times_ms)))
        expected += [(time_ms, name, line) for line, time_ms in enumerate(times_ms)]

    found = [(m.timestamp_ms, _span_name(m)) for m in read_all(folder)]

    assert found == [(time_ms, f"{name}:{line}") for time_ms, name, line in sorted(expected)]


def test_the_order_in_which_paths_are_named_does_not_matter(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, traces(5, name=name)) for name in ("b.jsonl", "a.jsonl", "c.jsonl")]

    for named in (paths, paths[::-1], [tmp_path]):
        assert [_span_name(m) for m in read_all(*named)] == ["a.jsonl", "b.jsonl", "c.jsonl"]


def _span_name(message: Message) -> str:
    name = json.loads(message.value)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"]
    assert isinstance(name, str)
    return name


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_lines_that_swapped_places_within_the_buffer_come_in_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Three groups of REORDER_MESSAGES lines: any order within a group, ascending times from group to group."""
    size = recordings.REORDER_MESSAGES
    times_ms = [group * 100 + (seed * step) % size for group in range(3) for step in range(1, size + 1)]
    path = write(tmp_path_factory.mktemp("swap") / "t.jsonl", *(traces(1 + t) for t in times_ms))

    assert [m.timestamp_ms for m in read_all(path)] == sorted(1 + t for t in times_ms)


def test_lines_further_out_of_order_are_delivered_and_reported(tmp_path: Path) -> None:
    times_ms = [*range(100, 140), 5]
    path = write(tmp_path / "t.jsonl", *(traces(t) for t in times_ms))
    bad = BadLines()

    assert sorted(m.timestamp_ms for m in read([path], bad)) == sorted(times_ms)
    assert (bad.dropped, bad.out_of_order) == (0, 1)
    assert bad.examples[0].line == 41


def test_bad_lines_are_reported_with_their_place_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    good = json.dumps(traces(5))
    broken = ['{"resourceSpans":', "[]", '{"resourceSpans":[],"resourceLogs":[]}', '{"resourceSpans":{"a":1}}', "{}"]
    broken += ['{"resourceSpans":[]}', '{"resourceSpans":[{"scopeSpans":[{"spans":[{"endTimeUnixNano":"x"}]}]}]}']
    broken += ['{"resourceSpans":"\udcff"}']  # a byte that is not UTF-8
    path.write_text("\n".join([good, *broken, "", good]), errors="surrogateescape")
    bad = BadLines()

    assert len(list(read([path], bad))) == 2
    assert [(b.file, b.line) for b in bad.examples] == [("t.jsonl", line) for line in range(2, 10)]
    assert bad.dropped == len(broken)


def nested(path: Path, depth: int) -> Path:
    """Write two log messages; the body of the first is nested so deep."""
    write(path, logs(5), logs(6))
    body = '{"arrayValue":{"values":[' * depth + '{"stringValue":"x"}' + "]}}" * depth
    path.write_text(path.read_text().replace('{"timeUnixNano"', f'{{"body":{body},"timeUnixNano"', 1))
    return path


def test_a_document_that_no_json_reader_can_nest_is_one_bad_line(tmp_path: Path) -> None:
    bad = BadLines()
    assert [m.timestamp_ms for m in read([nested(tmp_path / "t.jsonl", 10_000)], bad)] == [6]
    assert bad.dropped == 1


def test_a_document_nested_beyond_the_limit_of_the_job_is_read_and_rejected_by_the_job(tmp_path: Path) -> None:
    bad = BadLines()
    first, second = read([nested(tmp_path / "t.jsonl", 300)], bad)
    assert (first.timestamp_ms, second.timestamp_ms, bad.dropped) == (5, 6, 0)
    rejected = decode_logs(first.value)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "too_deep"


@pytest.mark.parametrize("text", ["-1", "x", str(2**63), "1.5"])
def test_a_time_that_only_a_decoder_can_judge_is_left_to_it(text: str) -> None:
    value = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": text}]}]}]}).encode()
    assert newest_ns(value) is None


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd", "zstd frames"])
def test_json_lines_are_read_from_any_compression(tmp_path: Path, form: str) -> None:
    lines = [json.dumps(traces(t)).encode() + b"\n" for t in (1, 2, 3)]
    compress = {
        "plain": lambda: b"".join(lines),
        "gzip": lambda: gzip.compress(b"".join(lines)),
        "zstd": lambda: zstandard.compress(b"".join(lines)),
        "zstd frames": lambda: b"".join(map(zstandard.compress, lines)),  # as the exporter writes when it rotates
    }
    path = tmp_path / "no-hint"
    path.write_bytes(compress[form]())

    assert [m.timestamp_ms for m in read_all(path)] == [1, 2, 3]


@pytest.mark.parametrize("outer", [bytes, zstandard.compress], ids=["plain stream", "zstd stream"])
@pytest.mark.parametrize("inner", [bytes, zstandard.compress], ids=["plain messages", "zstd messages"])
def test_length_prefixed_protobuf_is_recognised_by_its_content(tmp_path: Path, outer: Any, inner: Any) -> None:
    documents: list[tuple[SignalType, dict[str, Any]]] = [
        ("traces", traces(1)),
        ("logs", logs(2)),
        ("logs", logs(0, observed_ms=3)),
        *(("metrics", metrics(f, 4)) for f in ("gauge", "sum", "histogram", "summary")),
    ]
    values = [otlp_json.parse(kind, json.dumps(d).encode()).SerializeToString() for kind, d in documents]
    packed = [inner(value) for value in values]
    path = tmp_path / "no-hint"
    path.write_bytes(outer(b"".join(len(p).to_bytes(4, "big") + p for p in packed)))

    messages = read_all(path)

    assert [m.topic_kind for m in messages] == ["traces", "logs", "logs", *["metrics"] * 4]
    assert [m.timestamp_ms for m in messages] == [1, 2, 3, 4, 4, 4, 4]
    assert [m.value for m in messages] == values


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_a_file_that_is_cut_off_gives_what_is_whole_and_reports_the_end(tmp_path: Path, compress: Any) -> None:
    lines = b"".join(json.dumps(traces(t, name=str(t) * 999)).encode() + b"\n" for t in (1, 2, 3))
    path = tmp_path / "t"
    path.write_bytes(compress(lines)[:-8] if compress is bytes else compress(lines + lines)[:-8])
    bad = BadLines()

    found = list(read([path], bad))

    assert len(found) < 6
    assert bad.dropped == 1 or compress is not bytes
    assert bad.dropped or not found


def test_a_file_that_is_no_recording_is_reported_once_and_its_neighbours_are_read(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps([{"fault": n} for n in range(99)], indent=1))
    write(tmp_path / "t.jsonl", traces(5))
    bad = BadLines()

    assert len(list(read([tmp_path], bad))) == 1
    assert (bad.dropped, bad.examples[0].file) == (1, "truth.json")


def test_paths_that_hold_nothing_are_refused_with_the_path_in_the_message(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(WrongUse, match=str(path)):
            list(read([path], BadLines()))


def test_json_to_protobuf_keeps_ids_as_hex_and_agrees_with_the_reference_on_all_else() -> None:
    """The reference reads bytes as base64, so its copy of the document carries ids in that form."""

    def document(text_of_id: Any) -> dict[str, Any]:
        value = {"kvlistValue": {"values": [{"key": "k", "value": {"arrayValue": {"values": [{"intValue": "-7"}]}}}]}}
        attributes = [{"key": "a", "value": value}, {"key": "b", "value": {"bytesValue": "AP8="}}]
        attributes += [{"key": "c", "value": {"doubleValue": "NaN"}}, {"key": "d", "value": {"boolValue": False}}]
        link = {"traceId": text_of_id(TRACE_ID), "spanId": text_of_id(SPAN_ID), "flags": 1}
        span = {
            **link,
            "parentSpanId": text_of_id(SPAN_ID),
            "name": "n",
            "kind": 3,
            "startTimeUnixNano": "1700000000000000001",
            "endTimeUnixNano": 1700000000000000002,
            "attributes": attributes,
            "events": [{"timeUnixNano": "5", "name": "exception"}],
            "links": [link],
            "status": {"code": "STATUS_CODE_ERROR", "message": None},
            "droppedLinksCount": 4,
        }
        return {"resourceSpans": [{"schemaUrl": "u", "scopeSpans": [{"scope": {"name": "s"}, "spans": [span]}]}]}

    ours = otlp_json.parse("traces", json.dumps(document(str) | {"kafkaPartition": 3}).encode())
    reference = document(lambda text: base64.b64encode(bytes.fromhex(text)).decode())

    expected = ParseDict(reference, ExportTraceServiceRequest()).SerializeToString(deterministic=True)
    assert ours.SerializeToString(deterministic=True) == expected
    assert otlp_json.parse("traces", otlp_json.dumps(ours)) == ours


@needs_nezha
def test_a_recorded_hour_is_read_whole_and_in_order() -> None:
    recorded = {e["file"]: e["spans"] for e in json.loads((NEZHA / "recorded.json").read_text())}
    messages = read_all(NEZHA / "2023-01-29" / "metrics.jsonl.zst", *(NEZHA / "2023-01-29").glob("09_*"))

    times_ms = [message.timestamp_ms for message in messages]
    assert times_ms == sorted(times_ms)
    assert Counter(m.topic_kind for m in messages).keys() == {"traces", "logs", "metrics"}
    spans = sum(message.value.count(b'"endTimeUnixNano"') for message in messages if message.topic_kind == "traces")
    assert spans == sum(count for name, count in recorded.items() if name.startswith("2023-01-29/09_"))


@needs_nezha
def test_recorded_lines_are_equal_as_json_and_as_protobuf() -> None:
    for message in read_all(*(NEZHA / "2023-01-29" / f"08_50.{kind}.jsonl.zst" for kind in ("traces", "logs"))):
        request = otlp_json.parse(message.topic_kind, message.value)
        assert json.loads(otlp_json.dumps(request)) == json.loads(message.value)
        assert times_ns(message.topic_kind, request.SerializeToString(), SpanDecoder()) == times_ns(
            message.topic_kind, message.value, SpanDecoder()
        )
