"""State as savepoints hold it: committed bytes of each codec version are read, and the machine goes on from them.

`GOLDEN=write pytest tests/contracts` writes the files anew: only before a version ships, or for a new version.
"""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from operators.machine import BEGIN_OF_TIME
from operators.runtime.local import LocalGraph
from state_schemas.codec import Box, Codec, UnknownStateVersion, open_box, register
from state_schemas.contracts.insight import Insight
from state_schemas.state.latency import LATENCY_CODEC
from tests.support.driving import insights, summary
from tests.support.machines import MACHINES, eventful, events_of, stage_of
from tests.support.traffic import OUT_OF_ORDER_MS
from udfs.rules.subjects import bucket_of

GOLDEN = Path(__file__).parent / "golden"
WRITE = os.environ.get("GOLDEN") == "write"
# Part of the events before the cut: in the middle of an episode, a gap.
CUTS = {
    "pre-aggregate-traces": 0.5,
    "pre-aggregate-logs": 0.5,
    "call-pairs": 0.5,
    "latency-spike": 0.63,
    "error-patterns": 0.8,
    "novelty-traces": 0.5,
    "request-effects": 0.8,
    "log-silence": 0.5,
    "telemetry-gap": 0.66,
    "deploys": 0.7,
    "rule-signals": 0.5,
    "sequences": 0.77,
}

SILENT = ("pre-aggregate-traces", "pre-aggregate-logs", "call-pairs", "rule-signals")  # they put out no insights
# Something is open at the cut.
SPEAKING = ("latency-spike", "error-patterns", "request-effects", "telemetry-gap", "deploys", "sequences")


def run_from(uid: str, saved: bytes | None) -> tuple[list[Any], bytes]:
    """Outputs after the cut and the state of one key at the cut; `saved` takes the place of that state."""
    stage = stage_of(uid)
    events = events_of(uid, eventful(uid))
    # Of the service, or the bucket of the environment, that has something to tell.
    key = stage.key.of(events[0 if uid == "request-effects" else -1][1])
    if uid == "sequences":
        key = f"prod|{bucket_of('env|')}"
    events = [(at_ms, event) for at_ms, event in events if stage.key.of(event) == key]
    graph, cut, newest_ms = LocalGraph([stage]), int(len(events) * CUTS[uid]), BEGIN_OF_TIME
    out: list[Any] = []
    at_cut = b""
    for place, (at_ms, event) in enumerate(events):
        out += graph.feed((event,))
        if place == cut:
            at_cut = stage.machine.codec.encode(graph.state(uid, key))
            if saved is not None:
                graph.restore(uid, key, stage.machine.codec.decode(saved))
            out.clear()
        newest_ms = max(newest_ms, at_ms - OUT_OF_ORDER_MS)
        out += graph.advance(newest_ms)
    return out + graph.finish(), at_cut


@pytest.mark.parametrize("uid", MACHINES)
def test_state_v1_is_read_and_continued(uid: str) -> None:
    path = GOLDEN / f"{uid}_v1.bin"
    expected, at_cut = run_from(uid, None)
    if WRITE:
        path.write_bytes(at_cut)
    saved = path.read_bytes()
    assert saved[0] == 1
    found, _ = run_from(uid, saved)
    assert summary(found) == summary(expected), "what waited in the state went out with the rest, once"
    revisions: dict[str, list[int]] = {}
    for insight in insights(found):
        revisions.setdefault(insight.insight_id, []).append(insight.revision)
    emitted = getattr(stage_of(uid).machine.codec.decode(saved), "emitted", {})
    for insight_id, entry in emitted.items():
        assert revisions[insight_id][0] == entry.revision + 1, "an open insight goes on where it was"
    assert bool(emitted) == (uid in SPEAKING)
    assert bool(revisions) == (uid not in SILENT)


def named(value: Any) -> Any:
    """Return a state by its field names: of a mapping three elements, of a sequence one, of bytes the first eight."""
    if isinstance(value, Insight):  # no array: its fields have names in the state as well
        return value.insight_id
    if isinstance(value, msgspec.Struct):
        return {name: named(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): named(value[key]) for key in list(value)[:3]}
    if hasattr(value, "_asdict"):
        return {name: named(part) for name, part in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [named(part) for part in value[:1]]
    return f"{len(value)} bytes: {value[:8].hex()}" if isinstance(value, bytes) else value


def test_each_value_of_a_state_is_read_into_the_field_that_it_was_written_from() -> None:
    """States are arrays: two fields that change places are read without an error, each as the other."""
    path = GOLDEN / "state_v1.json"
    found = {}
    # Of the stages with one codec the one with the largest state stands for all: that of metrics has no spans.
    for uid in sorted(MACHINES, key=lambda uid: (GOLDEN / f"{uid}_v1.bin").stat().st_size):
        codec = stage_of(uid).machine.codec
        found[codec.name] = named(codec.decode((GOLDEN / f"{uid}_v1.bin").read_bytes()))
    if WRITE:
        path.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(path.read_text())


@pytest.mark.parametrize("uid", MACHINES)
def test_an_unknown_version_is_refused_with_what_to_do(uid: str) -> None:
    codec = stage_of(uid).machine.codec
    for data, version in ((bytes((9,)) + b"x", 9), (b"", 0)):
        with pytest.raises(UnknownStateVersion) as refused:
            codec.decode(data)
        assert str(refused.value) == (
            f"{codec.name}: state version {version}, expected one of 1; deploy the build that wrote it, or add a reader"
        )


def test_a_box_of_an_unknown_codec_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        UnknownStateVersion, match=r"state of codec 'gone', known are .*'latency-spike'.*deploy the build"
    ):
        open_box("gone", b"\x01", None)


def test_a_pickled_box_names_nothing_of_this_project_but_open_box() -> None:
    """So that a renamed state class breaks no savepoint."""
    function, arguments = Box(LATENCY_CODEC, stage_of("latency-spike").machine.initial("prod|cart"), 5).__reduce__()
    assert (function, arguments[0], arguments[2]) == (open_box, "latency-spike", 5)
    assert {type(argument) for argument in arguments} == {str, bytes, int}


def test_a_codec_name_is_taken_once() -> None:
    with pytest.raises(AssertionError, match="two codecs are named latency-spike"):
        register(LATENCY_CODEC)


def test_an_older_version_is_read_by_its_reader() -> None:
    codec: Codec[str] = Codec(
        "t", 2, write=str.encode, readers={1: lambda data: f"old {data.decode()}", 2: lambda data: data.decode()}
    )
    assert codec.decode(b"\x01a") == "old a"
    assert codec.decode(codec.encode("a")) == "a"
