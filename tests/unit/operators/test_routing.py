"""Both engines route by one table, and lose no output without an error."""

from types import SimpleNamespace
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from jobs.graph import JOBS, GraphConfig, stages
from jobs.sinks import SHIPPED, rows_of
from operators.gates.gate import Gate
from operators.ingest.pre_aggregate import PreAggregate
from operators.runtime import flink
from operators.runtime.flink import KeyedMachine
from operators.runtime.flink_graph import Sources, wire
from operators.runtime.local import LocalGraph, through_bytes
from operators.runtime.routing import BadGraph, SinkRows, routes
from operators.windowed import WindowedDetector
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.novelty import LogPatternSighting
from state_schemas.contracts.insight import Insight
from tests.support.parcels import (
    COUNTER,
    OFFICE,
    SORTER,
    Arrival,
    Letter,
    Parcel,
    Receipt,
    RegisteredLetter,
    Tariff,
    giving,
)

RECEIPTS = SinkRows("receipts", Receipt, (("to", "string"), ("text", "string")), lambda out: (out.to, out.text))
LETTERS = SinkRows("letters", Letter, (("to", "string"),), lambda out: (out.to,))
PARCELS = SinkRows("parcels", Parcel, (("to", "string"),), lambda out: (out.to,))


def members(hint: Any) -> set[type]:
    return set(get_args(hint) or (hint,))


def declared(machine: Any) -> tuple[Any, Any]:
    """Return the annotated types of event and output: of the generic machine, or of the method itself."""
    for base in getattr(type(machine), "__orig_bases__", ()):
        if get_origin(base) is PreAggregate:
            return FoldedMessage, get_args(base)[0]
        if get_origin(base) is WindowedDetector:
            _, _, event, output = get_args(base)
            return event, output
        if get_origin(base) is Gate:
            return get_args(base)[1], Insight
    hints = get_type_hints(machine.on_event)
    return hints["event"], get_args(hints["return"])[1]


def test_every_machine_declares_the_types_of_its_own_methods() -> None:
    gives: dict[type, set[type]] = {}
    annotated: dict[type, set[type]] = {}
    for stage in stages(GraphConfig()):
        machine = stage.machine
        event, output = declared(machine)
        assert all(issubclass(takes, tuple(members(event))) for takes in machine.takes), stage.uid
        gives.setdefault(type(machine), set()).update(machine.gives)
        annotated[type(machine)] = members(output)
    assert gives == annotated


@pytest.mark.parametrize("job", JOBS)
def test_the_shipped_jobs_lose_no_output(job: str) -> None:
    routes(JOBS[job].stages(JOBS[job].default_config), rows_of(SHIPPED), JOBS[job].unused)


def test_an_output_goes_to_each_stage_that_takes_its_type_or_the_type_that_it_derives_from() -> None:
    takers = routes(stages(GraphConfig()), rows_of(SHIPPED)).takers["error-patterns"][LogPatternSighting]
    assert [stage.uid for stage in takers.stages] == ["novelty", "novelty-traces"]


def test_every_output_that_nothing_takes_is_named_before_anything_starts() -> None:
    with pytest.raises(BadGraph) as caught:
        wire(Sources({}), [OFFICE, SORTER], [PARCELS])  # the office comes first: it is no later stage of the sorter
    assert str(caught.value) == (
        "the graph has 3 faults, nothing was started:\n"
        "  office gives Receipt, expected a later stage or a sink that takes it; "
        "add one, or name the type in `unused` of the job\n"
        "  sorter gives Letter, expected a later stage or a sink that takes it; "
        "add one, or name the type in `unused` of the job\n"
        "  sorter gives RegisteredLetter, expected a later stage or a sink that takes it; "
        "add one, or name the type in `unused` of the job"
    )
    with pytest.raises(BadGraph, match="office gives Receipt"):
        LocalGraph([OFFICE, SORTER], sinks=[PARCELS])


def test_an_output_that_is_dropped_on_purpose_is_no_fault_while_it_is_given_and_not_taken() -> None:
    routes([SORTER], [PARCELS], (Letter, RegisteredLetter))
    for unused in (Parcel, Receipt):
        with pytest.raises(BadGraph, match=f"`unused` of the job names {unused.__name__}, expected types that are"):
            routes([SORTER], [PARCELS], (Letter, RegisteredLetter, unused))


class Subtask:
    """A stand-in for Flink around one keyed step: state in a dictionary, no timers fired, side outputs collected."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: KeyedMachine) -> None:
        monkeypatch.setattr(flink, "_calm_garbage_collector", lambda: None)
        self.boxes: dict[str, Any] = {}
        self.key = ""
        box = SimpleNamespace(
            value=lambda: self.boxes.get(self.key),
            update=lambda box: self.boxes.update({self.key: box}),
            clear=lambda: self.boxes.pop(self.key, None),
        )
        metrics = SimpleNamespace(counter=lambda name: SimpleNamespace(inc=lambda number: None))
        step.open(SimpleNamespace(get_state=lambda descriptor: box, get_metrics_group=lambda: metrics))
        timers = SimpleNamespace(
            current_watermark=lambda: 0,
            register_event_time_timer=lambda at_ms: None,
            delete_event_time_timer=lambda at_ms: None,
        )
        self._step = step
        self._context = SimpleNamespace(timer_service=lambda: timers, get_current_key=lambda: self.key)

    def process(self, row: Any) -> list[tuple[str, Any]]:
        self.key, event = row
        return [(tag.tag_id, out) for tag, out in self._step.process_element(event, self._context)]


def row_of(arrival: Arrival) -> tuple[str, bytes]:
    return arrival.to, msgspec.msgpack.encode(arrival)


PARCEL, LETTER, REGISTERED = Arrival("ann", "parcel", 900), Arrival("bob", "letter"), Arrival("cem", "registered")
ARRIVALS = (PARCEL, LETTER, REGISTERED)


def test_each_event_comes_to_the_input_of_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """An office takes parcels and letters, and no letter is decoded as a parcel; a sink takes the letters as well."""
    sorter = Subtask(monkeypatch, KeyedMachine(SORTER, [OFFICE], [LETTERS]))
    office = Subtask(monkeypatch, KeyedMachine(OFFICE, [], [RECEIPTS]))
    mail = [out for arrival in ARRIVALS for out in sorter.process(row_of(arrival))]
    assert [tag for tag, _ in mail] == ["to-office", "to-office", "letters", "to-office", "letters"]
    receipts = [tuple(out) for tag, row in mail if tag == "to-office" for _, out in office.process(row)]
    assert receipts == [("ann", "parcel of 900 g"), ("bob", "letter"), ("cem", "letter")]
    graph = LocalGraph([SORTER, OFFICE], sinks=[LETTERS, RECEIPTS])
    out = graph.feed(ARRIVALS)
    assert [(part.to, part.text) for part in out if isinstance(part, Receipt)] == receipts
    assert [part for part in out if isinstance(part, Letter)] == [Letter("bob"), RegisteredLetter("cem")]


def test_an_output_that_its_machine_does_not_declare_is_an_assertion(monkeypatch: pytest.MonkeyPatch) -> None:
    """The assertion holds although the office would take the output: its type derives from a declared one."""
    stage = giving(Parcel, Letter)
    expected = r"sorter put out a RegisteredLetter, expected one of .* takes: Letter, Parcel; add the type to"
    with pytest.raises(AssertionError, match=expected):
        Subtask(monkeypatch, KeyedMachine(stage, [OFFICE], [LETTERS])).process(row_of(REGISTERED))
    with pytest.raises(AssertionError, match=expected):
        LocalGraph([stage, OFFICE]).feed([REGISTERED])


def test_a_declared_output_that_nothing_takes_is_dropped_only_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="sorter put out a Parcel"):
        Subtask(monkeypatch, KeyedMachine(SORTER, [], [LETTERS])).process(row_of(PARCEL))
    assert Subtask(monkeypatch, KeyedMachine(SORTER, [], [LETTERS], [Parcel])).process(row_of(PARCEL)) == []
    assert LocalGraph([SORTER], sinks=[LETTERS], unused=[Parcel]).feed([PARCEL, LETTER]) == [Letter("bob")]


def test_an_event_from_outside_that_no_stage_takes_is_an_assertion() -> None:
    with pytest.raises(AssertionError, match="fed a Receipt of None, expected an event that a stage of this graph"):
        LocalGraph([OFFICE]).feed([Receipt("ann", "")])


def test_without_sinks_every_output_that_no_stage_takes_is_returned() -> None:
    assert LocalGraph([SORTER]).feed([PARCEL, LETTER]) == [Parcel("ann", 900), Letter("bob")]
    assert LocalGraph([SORTER, OFFICE]).feed([PARCEL]) == [Receipt("ann", "parcel of 900 g")]


def test_rules_hold_for_each_key_from_its_next_event_on_and_replace_those_of_their_id() -> None:
    graph = LocalGraph([COUNTER], through_bytes)
    parcel = Parcel("ann", 900)
    assert graph.feed([parcel, Tariff("a", 1_000), Tariff("b", 500), parcel]) == 2 * [Receipt("ann", "too heavy")]
    assert graph.feed([Tariff("b", 2_000), parcel, Parcel("bob", 900)]) == [
        Receipt("ann", "accepted"),
        Receipt("bob", "accepted"),
    ]
    assert graph.state("counter", "ann") == 3, "rules change no state"


def test_a_state_can_be_read_and_replaced_and_its_timer_fired() -> None:
    graph = LocalGraph([OFFICE])
    graph.feed([Parcel("ann", 900)])
    assert (graph.state("office", "ann"), graph.state("office", "bob")) == (1, None)
    graph.restore("office", "ann", 41)
    graph.feed([Parcel("ann", 900)])
    assert graph.fire("office", "ann", 7) == [Receipt("all", "42 in all")]
    assert graph.state("office", "ann") is None
