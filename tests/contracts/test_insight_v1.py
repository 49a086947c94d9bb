"""Insight v1 as consumers know it: committed bytes still read, and the committed schema only ever grows.

`GOLDEN=write pytest tests/contracts` writes both files anew: for a field that was added, never for one that changed.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from jobs.graph import stages
from state_schemas.contracts import insight as contract
from state_schemas.contracts.insight import from_json, insight_schema, to_json
from tests.support.driving import graph_config, insights, run
from tests.support.machines import folded
from tests.support.stories import busy
from tests.support.traffic import messages

GOLDEN = Path(__file__).parent / "golden" / "insight_v1.json"
SCHEMA = Path(contract.__file__).parent / "insight_v1.schema.json"
WRITE = os.environ.get("GOLDEN") == "write"


def as_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def only_grows(old: Any, new: Any, place: str = "$") -> list[str]:
    """What a consumer of `old` would trip over in `new`: a field, value or type that is gone or new demands."""
    faults = []
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            if key in ("description", "title", "default") and not isinstance(old[key], dict):
                continue  # words for people; as the name of a field they hold its schema
            faults += only_grows(old[key], new[key], f"{place}.{key}") if key in new else [f"{place}.{key} is gone"]
        faults += [f"{place}.{key} is new and narrows" for key in new if key in NARROWS and key not in old]
    elif isinstance(old, list) and isinstance(new, list):
        faults += [f"{place}: {value!r} is gone" for value in old if value not in new]
    elif old != new:
        faults.append(f"{place} was {old!r}, is {new!r}")
    return faults


NARROWS = ("pattern", "minimum", "maximum", "maxLength", "enum", "const")


def test_the_committed_schema_is_that_of_the_model() -> None:
    if WRITE:
        SCHEMA.write_text(as_text(insight_schema()))
    assert json.loads(SCHEMA.read_text()) == insight_schema()


def test_the_schema_has_every_field_of_v1_still() -> None:
    committed = json.loads(GOLDEN.with_suffix(".schema.json").read_text()) if not WRITE else insight_schema()
    if WRITE:
        GOLDEN.with_suffix(".schema.json").write_text(as_text(committed))
    assert only_grows(committed, insight_schema()) == []


def test_what_was_sent_once_is_read_and_written_the_same() -> None:
    if WRITE:
        found = {
            insight.insight_id: insight for insight in insights(run(stages(graph_config()), folded(messages(busy()))))
        }
        GOLDEN.write_bytes(b"\n".join(to_json(insight) for insight in found.values()) + b"\n")
    for line in GOLDEN.read_bytes().splitlines():
        assert to_json(from_json(line)) == line


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda new: new["properties"].pop("title"), "$.properties.title is gone"),
        (
            lambda new: new["$defs"]["Window"]["properties"]["end_ms"].update(type="string"),
            "was 'integer', is 'string'",
        ),
        (lambda new: new["properties"]["status"]["enum"].remove("closed"), "'closed' is gone"),
        (lambda new: new["properties"]["env"].update(pattern="x"), "is new and narrows"),
    ],
)
def test_a_change_that_breaks_consumers_is_found(change: Any, fault: str) -> None:
    new = json.loads(json.dumps(insight_schema()))
    change(new)
    (found,) = only_grows(insight_schema(), new)
    assert fault in found


def test_a_new_optional_field_is_allowed() -> None:
    new = json.loads(json.dumps(insight_schema()))
    new["properties"]["runbook"] = {"type": "string", "default": ""}
    new["properties"]["status"]["enum"].append("muted")
    assert only_grows(insight_schema(), new) == []
