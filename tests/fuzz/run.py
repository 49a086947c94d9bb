"""Fuzzers of what reads input: `python tests/fuzz/run.py TARGET -max_total_time=20 [corpus folder]`.

TARGET is one of `spans`, `logs`, `metrics`, `json`, `lines`; the options are those of libFuzzer.

NUMBA_DISABLE_JIT=1 runs the kernels as plain Python: slower, but libFuzzer then sees their branches and finds inputs
that reach them. Run the corpus made that way once without the variable.

Needs atheris, which is not among the project's dependencies: `reasoner/stack/setup.sh fuzz`. Bounds checks are compiled
into the kernels here, so a read outside of a message raises an exception. Any exception is a finding: libFuzzer writes
the input to a file `crash-*`, and this file as argument repeats it.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

# Set before numba is imported. The separate folder keeps kernels with bounds checks apart from those without.
os.environ["NUMBA_BOUNDSCHECK"] = "1"
os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / "metric-reasoner-fuzz-kernels")
sys.path.insert(0, str(Path(__file__).parents[2]))

import atheris  # type: ignore[import-untyped]  # installed by hand

# numba cannot compile instrumented code.
_KERNELS: Final = (
    []
    if os.environ.get("NUMBA_DISABLE_JIT") == "1"
    else [
        *("udfs.otlp.span_scanner_kernels", "udfs.otlp.wire_kernels", "udfs.otlp.span_names", "udfs.compiled"),
        *("udfs.logs.masking.kernel", "udfs.logs.masking.byte_classes"),
    ]
)
with atheris.instrument_imports(include=["udfs", "tests"], exclude=_KERNELS):
    from state_schemas.contracts.dead_letter import Rejected
    from state_schemas.telemetry.logs import LogRecord
    from state_schemas.telemetry.resource import Resource
    from state_schemas.telemetry.spans import SpanColumns
    from tests.support.otlp_forms import check_scan, request_of, sized
    from tests.support.otlp_reference import ReferenceDecoder
    from udfs.logs.masking.masker import DEFAULTS
    from udfs.logs.masking.user_names import hide_names
    from udfs.logs.reader import LineReader, ReadLine
    from udfs.otlp.decoder import DecodeSettings, Records, SpanDecoder, decode_logs, decode_metrics
    from udfs.otlp.signal import signal_of

# Lower than the default bounds, with which one input of 2-byte spans would take seconds.
_SETTINGS: Final = DecodeSettings(message_bytes_max=1 << 16, spans_max=10_000, resources_cached_max=64)
_SCANNER: Final = SpanDecoder(_SETTINGS)
_REFERENCE: Final = ReferenceDecoder(_SETTINGS)
_READER: Final = LineReader()
_FUZZER: Final = Resource("prod", "fuzzer", "host-1")
_HEADS: Final = {
    "traces": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a","events":[{"name":"exception","attributes":[',
    "logs": b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"',
    "metrics": b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"a","gauge":{"dataPoints":[{"asInt":1,',
}


def spans(data: bytes) -> None:
    """Decode the bytes as a request, and as the content of a span, a resource, a status and an exception."""
    inside = (request_of(sized(15, data)), request_of(sized(11, sized(2, b"exception") + data)))
    for message in (data, request_of(data), request_of(b"", resource=data), *inside):
        check_scan(message, _SCANNER, _REFERENCE)
        signal_of(message)


def logs(data: bytes) -> None:
    """Decode the bytes as a request, a resource, a record and a body, and read the lines of what is found."""
    record = sized(1, sized(2, sized(2, data)))
    for message in (data, sized(1, sized(1, data)), record, sized(1, sized(2, sized(2, sized(5, data))))):
        found = decode_logs(message, _SETTINGS)
        assert isinstance(found, Records | Rejected), found
        if isinstance(found, Records):
            _check_lines(found.records)
        signal_of(message)


def metrics(data: bytes) -> None:
    """Decode the bytes as a request, a resource and a metric."""
    for message in (data, sized(1, sized(1, data)), sized(1, sized(2, sized(2, data)))):
        found = decode_metrics(message, _SETTINGS)
        assert isinstance(found, Records | Rejected), found
        signal_of(message)


def json(data: bytes) -> None:
    """Decode the bytes as JSON of each signal: alone, and behind the beginning of a request."""
    for head in (b"", *_HEADS.values()):
        message = head + data
        assert isinstance(_SCANNER.decode(message), SpanColumns | Rejected), message
        for found in (decode_logs(message, _SETTINGS), decode_metrics(message, _SETTINGS)):
            assert isinstance(found, Records | Rejected), found
        signal_of(message)


def lines(data: bytes) -> None:
    """Read the bytes as a body, as a stack trace and as the message of an exception."""
    text = data.decode(errors="replace")
    forms = (
        ("", ()),
        ("", (("exception.type", text[:40]), ("exception.stacktrace", text))),
        ("", (("exception.message", text), ("exception.type", "a.B"))),
        ("WARN", (("log.record.template", text),)),
    )
    _check_lines([LogRecord(_FUZZER, 0, 0, severity, text, "", given, "") for severity, given in forms])


def _check_lines(records: list[LogRecord] | tuple[LogRecord, ...]) -> None:
    for record, read in zip(records, _READER.read(records), strict=True):
        _check_line(record, read)


def _check_line(record: LogRecord, read: ReadLine) -> None:
    assert 0 <= read.severity <= 24, read
    assert len(read.pattern.pattern_id) == 16, read
    assert len(read.masked_line) <= DEFAULTS.line_bytes_max, read
    assert not any(byte in b"0123456789" for byte in read.masked_line), (record, read)
    hidden = hide_names(read.masked_line)
    assert hide_names(hidden) == hidden, (record, read)


_TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "spans": spans,
    "logs": logs,
    "metrics": metrics,
    "json": json,
    "lines": lines,
}


def main() -> None:
    """Run the fuzzer of the target that the first argument names."""
    target = _TARGETS.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if target is None:
        sys.exit(f"fuzz: found {sys.argv[1:2]}, expected one of {', '.join(_TARGETS)}")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
