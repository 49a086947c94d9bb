"""Pattern ids of 204 lines: registries in savepoints and tables name patterns by them."""

import json
import os
from pathlib import Path
from typing import Any, Final

from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.resource import Resource
from udfs.logs.reader import LineReader
from udfs.logs.template import PATTERN_VERSION

GOLDEN: Final = Path(__file__).parent / "golden" / "pattern_ids.jsonl"
VERSION_LINE: Final = "version"  # field of the first line of the file: the version that gave these ids
CART: Final = Resource("prod", "cart", "host-1")


def record(line: dict[str, Any]) -> LogRecord:
    names = ("exception.type", "exception.message", "exception.stacktrace")
    attributes = tuple(zip(names, line.get("exception", ()), strict=False))
    return LogRecord(CART, 0, 17, "", line["body"], "", attributes, "")


def ids_of(lines: list[dict[str, Any]]) -> list[str]:
    return [read.pattern.pattern_id for read in LineReader().read([record(line) for line in lines])]


def test_pattern_ids_change_only_with_the_version_in_the_fingerprint() -> None:
    head, *lines = (json.loads(text) for text in GOLDEN.read_text().splitlines())
    found = ids_of(lines)
    moved = [line["body"] for line, pattern_id in zip(lines, found, strict=True) if line.get("id") != pattern_id]
    if os.environ.get("GOLDEN") == "write" and head[VERSION_LINE] < PATTERN_VERSION:
        rows: list[dict[str, Any]] = [{VERSION_LINE: PATTERN_VERSION}]
        rows += [{**line, "id": pattern_id} for line, pattern_id in zip(lines, found, strict=True)]
        GOLDEN.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return
    assert not moved, (
        f"{len(moved)} of {len(lines)} lines have another pattern id, such as {moved[0]!r}: raise PATTERN_VERSION in "
        "udfs/logs/template.py, so that registries begin anew instead of calling each known error new, and write this "
        "file with GOLDEN=write"
    )
    assert head[VERSION_LINE] == PATTERN_VERSION, "PATTERN_VERSION was raised and no id changed: take it back"


def test_lines_that_differ_in_values_alone_share_their_ids() -> None:
    _, *lines = (json.loads(text) for text in GOLDEN.read_text().splitlines())
    assert len(set(ids_of(lines))) < len(lines) // 3
