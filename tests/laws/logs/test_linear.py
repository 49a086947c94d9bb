"""CPU time of the line path grows as the line does, whatever the line contains."""

import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.resource import Resource
from udfs.logs import stack_trace
from udfs.logs.masking.masker import MaskSettings
from udfs.logs.reader import LineReader
from udfs.otlp.decoder import decode_logs
from udfs.otlp.repair import repair_json

SHORT, LONG = 1 << 14, 1 << 15
RATIO_MAX = 2.5
ATTEMPTS = 4
TIMED_MS_MIN = 4.0  # below it the clock and the caches decide
# Bounds of the reader far above the line, so that it is its work that grows in proportion, and not a cut that hides it.
UNBOUNDED = MaskSettings(line_bytes_max=1 << 20)
CART = Resource("prod", "cart", "host-1")

# What the line path looks for, opened and not closed; separators; letters of each class.
PARTS = (
    *(
        "a",
        "A",
        "0",
        "f",
        "é",
        "\u4e2d",
        " ",
        "\t",
        "\n",
        "\r",
        "\x00",
        "\u2028",
        "_",
        "-",
        ".",
        ",",
        ":",
        ";",
        "=",
        "+",
    ),
    *(
        "/",
        "\\",
        "@",
        "%",
        "$",
        "~",
        "|",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        '"',
        "'",
        "a:",
        ":a",
        "1:1",
        "::",
        "==",
    ),
    *("a.", ".a", "a-", "-a", "a@", "@a.", "a=", "=a", "0.", "0x", "a0", "aaaa-", "\\u", '\\"', "://a:", "://a@"),
    *("Bearer ", "password=", "token: ", "user ", "user=", "user='", 'user "', "username: '", "for user ", "by a"),
    *("password for ", "session a a ", "gssapi-", " for ", "/home/", "/Users/", "/Users/a", "\\Users\\", "of user a"),
    *("logname=", " : TTY=", "(uid=", "Jan ", "Mon, ", "1 Jan ", "level=", "level: ", "[INFO", "INFO ", "ERROR"),
    *("\n at ", "\n at a", "\n at a in ", "\n at a(", "\n at async ", '\n File "', '\n File "a", line 1, in ', "a.b("),
    *(
        "a.b()\n\t/a.go:1\n",
        "/(",
        "((",
        "\n\t/a.go:1",
        "\nCaused by: ",
        '\nException in thread "',
        "\na.b: ",
        "\x1b[31m",
    ),
    *('{"a":', '{"message":"', '{"a":[', '"a",', "[[", "{{"),
)


def cpu_ms(work: Callable[[str], object], text: str) -> float:
    """Return the least CPU time of five calls."""
    took = []
    for _ in range(5):
        begin = time.process_time_ns()
        work(text)
        took.append(time.process_time_ns() - begin)
    return min(took) / 1e6


def check(work: Callable[[str], object], text: str) -> None:
    """Assert that the time for the repeated text is linear in its length."""
    long = (text * (LONG // len(text) + 1))[:LONG]
    check_pair(work, long[:SHORT], long)


def check_pair(work: Callable[[str], object], short: str, long: str) -> None:
    """Assert that the time for twice the text is at most RATIO_MAX times as long, in one of ATTEMPTS pairs.

    Work that grows with the square takes four times as long in each of them; caches that others use, only in some.
    """
    work(long[:100])  # loads what is loaded once
    short_ms = long_ms = 0.0
    for _ in range(ATTEMPTS):
        long_ms = cpu_ms(work, long)
        if long_ms <= TIMED_MS_MIN:
            return
        short_ms = cpu_ms(work, short)
        if long_ms <= RATIO_MAX * short_ms:
            return
    pytest.fail(f"{long[:80]!r}…: {short_ms:.1f} ms, twice as long {long_ms:.1f} ms")


def read(severity: int, body: str) -> None:
    """Read one record as a reader without a cache does."""
    LineReader(UNBOUNDED).read([LogRecord(CART, 0, severity, "", body, "", (), "")])


def read_trace(trace: str) -> None:
    attributes = (("exception.stacktrace", trace), ("exception.type", trace[:300]))
    LineReader(UNBOUNDED).read([LogRecord(CART, 0, 0, "", "", "", attributes, "")])


def decode(text: str) -> None:
    value = text.replace("\\", "").replace('"', "\\ud83d")
    decode_logs(
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"%b\xff"}}]}]}]}' % value.encode()
    )


WORK: dict[str, Callable[[str], object]] = {
    "body": partial(read, 0),
    "severe body": partial(read, 17),
    "stack trace": read_trace,
    "JSON": decode,
}


@pytest.fixture(autouse=True)
def no_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_trace, "TRACE_CHARS_MAX", 1 << 20)


@pytest.mark.parametrize("name", WORK)
def test_each_part_repeated_takes_linear_time(name: str) -> None:
    for part in PARTS:
        check(WORK[name], part)


@pytest.mark.usefixtures("no_cut")
@given(st.sampled_from(sorted(WORK)), st.lists(st.sampled_from(PARTS), min_size=2, max_size=4))
@settings(max_examples=30)
def test_parts_in_turn_take_linear_time(name: str, parts: list[str]) -> None:
    check(WORK[name], "".join(parts))


@given(st.lists(st.sampled_from(PARTS), min_size=2, max_size=2))
@settings(max_examples=20)
def test_one_part_opened_often_before_another_takes_linear_time(parts: list[str]) -> None:
    """All openings first, then text that closes none: `((((aaaa`."""
    first, second = parts
    long = (first * LONG)[: LONG // 2] + (second * LONG)[: LONG // 2]
    short = (first * LONG)[: SHORT // 2] + (second * LONG)[: SHORT // 2]
    check_pair(WORK["severe body"], short, long)


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3))
@settings(max_examples=30)
def test_repair_of_json_takes_linear_time(parts: list[str]) -> None:
    def repair(text: str) -> None:
        repair_json(text.encode() + b"\xff")

    check(repair, "".join(parts))
