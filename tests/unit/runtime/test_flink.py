"""A machine on Flink: its state, timers, counters and routes, observed at the calls to Flink. No JVM is started."""

import gc
from collections.abc import Iterator
from typing import Any

import msgspec
import psutil
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from pyflink.common import Row

from operators.ingest.fold import FoldConfig
from operators.machine import BEGIN_OF_TIME, END_OF_INPUT, Key, Stage, Step
from operators.runtime.flink import FoldMessages, KeyedMachine
from operators.runtime.routing import SinkRows
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.codec import Codec, register
from state_schemas.contracts.counters import WORKER_MEMORY, MetricName
from state_schemas.contracts.dead_letter import DeadLetter
from tests.support.fake_flink import FakeTask

KEY = "prod|cart"


class Order(msgspec.Struct, frozen=True, array_like=True):
    """Instruction for the machine. clear: drop the state of the key. emits: kinds of its outputs."""

    add: int = 0
    timer_at_ms: int | None = None
    clear: bool = False
    emits: tuple[str, ...] = ()
    counts: tuple[tuple[MetricName, int], ...] = ()


class Total(msgspec.Struct, frozen=True, array_like=True):
    """State of the machine, and the event time of the call, epoch ms."""

    total: int
    at_ms: int


class Report(Total, frozen=True, array_like=True):
    """A total with a different type."""


class Alarm(msgspec.Struct, frozen=True, array_like=True):
    """An output that has nothing in common with a total."""

    text: str


CODEC: Codec[int] = register(Codec("test-adder", 1, msgspec.msgpack.encode, {1: msgspec.msgpack.decode}))


class Adder:
    """Machine that executes orders, and emits its total at each timer."""

    codec = CODEC
    gives = (Total, Report, Alarm)

    def __init__(self, takes: type) -> None:
        self.takes = (takes,)

    def initial(self, key: str) -> int:
        return len(key)

    def on_event(self, state: int, event: Order, watermark_ms: int) -> Step[int, Total | Alarm]:
        total = state + event.add
        kinds: dict[str, Total | Alarm] = {
            "total": Total(total, watermark_ms),
            "report": Report(total, watermark_ms),
            "alarm": Alarm("too many"),
        }
        outputs = tuple(kinds[kind] for kind in event.emits)
        return Step(None if event.clear else total, outputs, event.timer_at_ms, event.counts)

    def on_timer(self, state: int, now_ms: int) -> Step[int, Total | Alarm]:
        kept = None if now_ms == END_OF_INPUT else state
        return Step(kept, (Total(state, now_ms),), counts=(("insights_emitted_total", 1),))


def stage(uid: str, takes: type) -> Stage:
    return Stage(uid, Adder(takes), Key("event", lambda event: f"key of {event}"))


def machine() -> KeyedMachine:
    downstream = (stage("totals", Total), stage("more-totals", Total), stage("reports", Report))
    text = SinkRows("alarms", Alarm, (("text", "string"),), lambda alarm: (alarm.text,))
    sums = SinkRows("sums", Total, (("at_ms", "long"), ("sum", "long")), lambda total: (total.at_ms, total.total))
    return KeyedMachine(stage("adder", Order), downstream, (text, sums))


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Undo the garbage collector settings that `open` makes for the whole process."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


@pytest.fixture
def task() -> FakeTask:
    return FakeTask(machine(), KEY)


def order(task: FakeTask, **fields: Any) -> list[tuple[str, Row]]:
    return task.send(msgspec.msgpack.encode(Order(**fields)))


def totals(sent: list[tuple[str, Row]]) -> list[Total]:
    return [msgspec.msgpack.decode(row[1], type=Total) for name, row in sent if name == "to-totals"]


def test_a_new_key_begins_with_its_initial_state_and_goes_on_with_what_it_has(task: FakeTask) -> None:
    assert totals(order(task, add=1, emits=("total",))) == [Total(len(KEY) + 1, BEGIN_OF_TIME)]
    assert totals(order(task, add=10, emits=("total",))) == [Total(len(KEY) + 11, BEGIN_OF_TIME)]


def test_an_event_comes_with_the_watermark(task: FakeTask) -> None:
    task.advance(7_000)
    assert totals(order(task, emits=("total",))) == [Total(len(KEY), 7_000)]


def test_an_event_behind_the_end_of_event_time_meets_its_beginning(task: FakeTask) -> None:
    """A machine adds to the watermark it is given, and no timer can be later than the end."""
    task.advance(END_OF_INPUT)
    assert totals(order(task, emits=("total",))) == [Total(len(KEY), BEGIN_OF_TIME)]


def test_a_timer_fires_once_when_event_time_reaches_it(task: FakeTask) -> None:
    order(task, add=1, timer_at_ms=100)
    assert task.timers.calls == [("register", 100)]
    assert task.advance(99) == []
    assert totals(task.advance(100)) == [Total(len(KEY) + 1, 100)]
    assert task.advance(1_000) == []


@pytest.mark.parametrize("moved_to", [50, 200])
def test_a_timer_that_moves_is_deleted_and_registered_at_its_new_time(task: FakeTask, moved_to: int) -> None:
    order(task, timer_at_ms=100)
    order(task, timer_at_ms=moved_to)
    assert task.timers.pending == {moved_to}
    assert task.advance(moved_to - 1) == []
    assert [total.at_ms for total in totals(task.advance(moved_to))] == [moved_to]
    assert task.advance(1_000) == []


def test_a_timer_that_stays_is_not_registered_again(task: FakeTask) -> None:
    order(task, timer_at_ms=100)
    order(task, timer_at_ms=100)
    assert task.timers.calls == [("register", 100)]


def test_a_timer_that_is_cancelled_is_deleted(task: FakeTask) -> None:
    order(task, timer_at_ms=100)
    order(task)
    assert task.timers.pending == set()
    assert task.fire(100) == [], "Flink may fire a timer that it had already selected"


def test_a_key_that_is_cleared_has_neither_state_nor_timer_and_begins_anew(task: FakeTask) -> None:
    order(task, add=10, timer_at_ms=100)
    order(task, clear=True)
    assert task.states == {}
    assert task.timers.pending == set()
    assert task.fire(100) == [], "a timer of a cleared key does nothing"
    assert totals(order(task, add=1, emits=("total",))) == [Total(len(KEY) + 1, BEGIN_OF_TIME)]


def test_a_key_that_is_cleared_has_no_timer_even_where_the_step_names_one(task: FakeTask) -> None:
    order(task, clear=True, timer_at_ms=100)
    assert task.timers.calls == []
    order(task, timer_at_ms=100)
    order(task, clear=True, timer_at_ms=100)
    assert task.timers.pending == set()


def test_a_timer_that_fires_after_it_was_moved_does_nothing(task: FakeTask) -> None:
    order(task, timer_at_ms=100)
    order(task, timer_at_ms=200)
    assert task.fire(100) == []
    assert task.timers.pending == {200}


def test_a_timer_has_the_watermark_however_far_it_has_moved(task: FakeTask) -> None:
    order(task, timer_at_ms=100)
    assert [total.at_ms for total in totals(task.advance(90_000))] == [90_000]


def test_a_timer_at_the_last_watermark_is_the_end_of_input(task: FakeTask) -> None:
    order(task, timer_at_ms=100)
    assert [total.at_ms for total in totals(task.advance(END_OF_INPUT))] == [END_OF_INPUT]
    assert task.states == {}


def test_counts_of_events_add_up(task: FakeTask) -> None:
    order(task, counts=(("records_late_total", 2), ("insights_emitted_total", 0)))
    order(task, counts=(("records_late_total", 3), ("states_reset_total", 1)))
    assert task.counts == {"records_late_total": 5, "states_reset_total": 1}


def test_what_a_timer_counts_is_not_lost(task: FakeTask) -> None:
    order(task, timer_at_ms=100)
    task.advance(100)
    assert task.counts == {"insights_emitted_total": 1}
    order(task, counts=(("insights_emitted_total", 5),))
    assert task.counts == {"insights_emitted_total": 6}


def test_what_a_timer_counts_before_the_first_event_of_a_process_is_counted_with_that_event(task: FakeTask) -> None:
    order(task, timer_at_ms=100)
    task.restart(machine())
    task.advance(100)
    assert task.counts == {}
    order(task)
    assert task.counts == {"insights_emitted_total": 1}


def test_an_output_goes_to_every_stage_and_sink_that_takes_its_type(task: FakeTask) -> None:
    task.advance(7)
    sent = order(task, emits=("total", "alarm"))
    assert [name for name, _ in sent] == ["to-totals", "to-more-totals", "sums", "alarms"]
    rows = {name: tuple(row) for name, row in sent}
    assert rows["sums"] == (7, len(KEY))
    assert rows["alarms"] == ("too many",)


def test_an_output_goes_to_a_stage_that_takes_its_base_class(task: FakeTask) -> None:
    names = {name for name, _ in order(task, emits=("report",))}
    assert names >= {"to-totals", "to-more-totals", "to-reports"}


def test_an_event_is_its_key_and_message_pack_of_its_type(task: FakeTask) -> None:
    ((_, row),) = [sent for sent in order(task, add=1, emits=("report",)) if sent[0] == "to-reports"]
    report = Report(len(KEY) + 1, BEGIN_OF_TIME)
    assert row[0] == f"key of {report}"
    assert msgspec.msgpack.decode(row[1], type=Report) == report


def test_a_savepoint_goes_on_in_another_process(task: FakeTask) -> None:
    order(task, add=10, timer_at_ms=100)
    task.restart(machine())
    order(task, add=1, timer_at_ms=200)
    assert task.timers.pending == {200}, "the timer from before the savepoint is deleted"
    assert totals(task.advance(200)) == [Total(len(KEY) + 11, 200)]


def folding() -> FakeTask:
    """Start a fold of metrics."""
    letters = SinkRows("dead-letters", DeadLetter, (("body", "string"),), msgspec.structs.astuple)
    return FakeTask(
        FoldMessages("metrics", "metrics_rollup", FoldConfig(), (stage("messages", FoldedMessage),), letters)
    )


def test_a_message_is_folded_at_its_place_on_kafka() -> None:
    request = ExportMetricsServiceRequest()
    point = request.resource_metrics.add().scope_metrics.add().metrics.add(name="up").gauge.data_points.add(as_int=1)
    point.time_unix_nano = 60_000 * 1_000_000
    task = folding()
    ((name, row),) = task.send(Row(request.SerializeToString(), 3, 42), timestamp_ms=61_000)
    message = msgspec.msgpack.decode(row[1], type=FoldedMessage)
    assert (name, row[0]) == ("to-messages", f"key of {message}")
    assert (message.key, message.signal) == ("metrics_rollup|3", "metrics")
    assert [
        at.first_offset for activity in message.activity for window in activity.windows for at in window.ranges
    ] == [42]
    assert task.counts == {"records_folded_total": 1}


def test_a_fold_shows_the_memory_of_its_worker() -> None:
    shown, now = folding().gauges[WORKER_MEMORY], psutil.Process().memory_info().rss
    assert now / 2 < shown < now * 2


@pytest.mark.parametrize(("value", "reason"), [(b"\xff\xff", "malformed_protobuf"), (b"", "empty"), (None, "empty")])
def test_bytes_that_cannot_be_read_become_a_dead_letter_with_their_place(value: bytes | None, reason: str) -> None:
    task = folding()
    ((name, row),) = task.send(Row(value, 3, 42), timestamp_ms=61_000)
    letter = DeadLetter(*row)
    assert name == "dead-letters"
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (reason, "metrics_rollup", 3, 42)
    assert letter.timestamp_ms == 61_000
    assert task.counts == {"messages_rejected_total": 1, f"rejected_{reason}_total": 1}
