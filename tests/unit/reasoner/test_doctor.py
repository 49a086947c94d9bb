"""The doctor: formats that are no OTLP are named, and late records give the setting that admits them."""

import gzip

import pytest

from reasoner.runs.doctor import lag_findings
from reasoner.runs.foreign_format import foreign_format

LINE = b"2026-06-11 09:14:22 ERROR the oven is cold"


@pytest.mark.parametrize(
    ("value", "name", "mend"),
    [
        (LINE, "raw text", "encoding: otlp_proto"),
        (b"first line\n\tat bakery.Oven.heat(Oven.java:3)", "raw text", "not `raw`"),
        (b'{"level":"error","msg":"cold"}', "JSON that is no OTLP", "encoding: otlp_proto"),
        (b"[1, 2]", "JSON that is no OTLP", "encoding: otlp_proto"),
        (b'{"traceID":"1","spanID":"2","operationName":"bake"}', "Jaeger JSON", "not `jaeger_json`"),
        (b'{"process":{},"spans":[]}', "Jaeger JSON", "not `jaeger_json`"),
        (b'[{"traceId":"1","id":"2","timestamp":3,"duration":4}]', "Zipkin JSON", "not `zipkin_json`"),
        (b'{"resource_spans":[]}', "OTLP/JSON with snake_case names", "lowerCamelCase"),
        (b'{"streams":[{"stream":{},"values":[]}]}', "the push format of Loki", "encoding: otlp_proto"),
        (gzip.compress(LINE, mtime=0), "compressed inside the message", "compression: lz4"),
        (
            b"\x00\x00\x00\x00\x07" + LINE,
            "a payload behind the id of a schema registry",
            "the bytes of the request alone",
        ),
    ],
)
def test_a_foreign_format_is_named_with_what_mends_it(value: bytes, name: str, mend: str) -> None:
    found = foreign_format(value)
    assert found is not None
    assert found.name == name
    assert mend in found.mend


@pytest.mark.parametrize("value", [b"", b"\n\xd6\x02\n2\n\x19\n\x0cservice.name", b"\xff\xfe\xfd", b"[" * 5_000])
def test_bytes_that_show_no_format_are_not_guessed(value: bytes) -> None:
    assert foreign_format(value) in (None, foreign_format(b"text"))


def test_agents_that_ship_every_ten_minutes_get_the_lateness_that_admits_them() -> None:
    lags_ms = [second * 1_000 for second in range(600)]
    (late,) = lag_findings("logs_raw", lags_ms, 120_000)
    assert late.level == "fault"
    assert "logs_raw: 79.8 % of 600 records come too late for detection" in late.text
    assert "set detection.lateness_ms to 600000, which admits 99.9 %" in late.text
    (admitted,) = lag_findings("logs_raw", lags_ms, 600_000)
    assert (admitted.level, admitted.text) == ("ok", "logs_raw: records are 5 min old when they come, 0.0 % too late")


def test_a_clock_that_is_ahead_is_named() -> None:
    found = list(lag_findings("logs_raw", [10] * 95 + [-240_000] * 5, 120_000))
    assert [finding.level for finding in found] == ["ok", "fault"]
    assert "5.0 % of records are ahead of their message, by 4 min at most" in found[1].text
