"""The only place that knows Flink: a fold as a process function, and any machine as a keyed process function.

Events travel between steps as rows (key, MessagePack bytes). The mode is Flink's *process* mode and stays it: a
savepoint of one mode restores in the other without an error and without its state.
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec
from pyflink.common import Row, TypeInformation, Types
from pyflink.datastream import DataStream, KeyedProcessFunction, KeyedStream, OutputTag, ProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.java_gateway import get_gateway

from operators.ingest.fold import Fold, FoldConfig
from operators.machine import END_OF_INPUT, Stage, Step
from state_schemas.codec import Box
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.tables import ColumnType
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.signals import SignalType

EVENT_TYPE = Types.ROW_NAMED(["key", "payload"], [Types.STRING(), Types.PRIMITIVE_ARRAY(Types.BYTE())])


_FLINK_TYPES: dict[ColumnType, Callable[[], TypeInformation]] = {
    "string": Types.STRING,
    "int": Types.INT,
    "long": Types.LONG,
    "double": Types.DOUBLE,
    "boolean": Types.BOOLEAN,
    "binary": lambda: Types.PRIMITIVE_ARRAY(Types.BYTE()),
}


@dataclass(frozen=True)
class SinkRows:
    """How outputs of one type become typed rows of the side output `name`. Plain data, so that it can be shipped."""

    name: str
    takes: type
    columns: tuple[tuple[str, ColumnType], ...]
    to_row: Callable[[Any], Sequence[Any]]

    @property
    def tag(self) -> OutputTag:
        names, types = zip(*self.columns, strict=True)
        return OutputTag(self.name, Types.ROW_NAMED(list(names), [_FLINK_TYPES[name]() for name in types]))


def event_tag(stage: Stage) -> OutputTag:
    """The side output that feeds a stage."""
    return OutputTag(f"to-{stage.uid}", EVENT_TYPE)


class _Router:
    """Sends each output to the stages and sinks that take its type."""

    def __init__(self, stages: Sequence[Stage], sinks: Sequence[SinkRows]) -> None:
        self._stages = [(stage.takes, event_tag(stage), stage.key_of) for stage in stages]
        self._sinks = [(sink.takes, sink.tag, sink.to_row) for sink in sinks]
        self._encode = msgspec.msgpack.Encoder().encode

    def route(self, outputs: Sequence[Any]) -> Iterator[Any]:
        for output in outputs:
            for takes, tag, key_of in self._stages:
                if isinstance(output, takes):
                    yield tag, Row(key_of(output), self._encode(output))
            for takes, tag, to_row in self._sinks:
                if isinstance(output, takes):
                    yield tag, Row(*to_row(output))


class _Counters:
    """Flink counters for the closed list of metric names, registered on first use."""

    def __init__(self, context: RuntimeContext) -> None:
        group = context.get_metrics_group()
        self._counters = {name: group.counter(name) for name in get_args(MetricName)}

    def add(self, counts: Sequence[tuple[MetricName, int]]) -> None:
        for name, number in counts:
            if number:
                self._counters[name].inc(number)


def _calm_garbage_collector() -> None:
    """What runs here makes no cycles and frees its memory by reference counts: walks over live state find nothing."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


class FoldMessages(ProcessFunction):
    """Rows (value bytes, partition, offset) with the Kafka timestamp as record timestamp -> side outputs."""

    def __init__(
        self, signal: SignalType, topic: str, config: FoldConfig, stages: Sequence[Stage], dead_letters: SinkRows
    ) -> None:
        assert dead_letters.takes is DeadLetter, f"{dead_letters.name} takes {dead_letters.takes}, not DeadLetter"
        self._arguments = (signal, config)
        self._topic = topic
        self._routes = (stages, dead_letters)

    def open(self, runtime_context: RuntimeContext) -> None:
        _calm_garbage_collector()
        # Scratch memory lives in the fold: the worker runs several subtasks as threads of one process.
        self._fold = Fold(*self._arguments)
        stages, dead_letters = self._routes
        self._router = _Router(stages, (dead_letters,))
        self._counters = _Counters(runtime_context)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        data = bytes(value[0]) if value[0] is not None else b""
        folded = self._fold.fold(data, KafkaPosition(self._topic, value[1], value[2], ctx.timestamp()))
        self._counters.add(folded.counts)
        if folded.message is not None:
            yield from self._router.route((folded.message,))
        yield from self._router.route(folded.dead_letters)


class KeyedMachine(KeyedProcessFunction):
    """Runs any machine: state in one value (versioned bytes when Flink writes it), timers as event-time timers."""

    def __init__(self, stage: Stage, downstream: Sequence[Stage], sinks: Sequence[SinkRows]) -> None:
        self._stage = stage
        self._routes = (downstream, sinks)

    def open(self, runtime_context: RuntimeContext) -> None:
        _calm_garbage_collector()
        self._box = runtime_context.get_state(ValueStateDescriptor("box", Types.PICKLED_BYTE_ARRAY()))
        self._machine = self._stage.machine
        self._decode: Callable[[Any], Any] = msgspec.msgpack.Decoder(self._stage.takes).decode
        self._router = _Router(*self._routes)
        self._counters = _Counters(runtime_context)

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        box = self._box.value() or Box(self._machine.codec, self._machine.initial(value[0]), None)
        step = self._machine.on_event(box.state, self._decode(value[1]), ctx.timer_service().current_watermark())
        yield from self._commit(box, step, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        box = self._box.value()
        if box is None or box.timer_at_ms != timestamp:
            return  # forgotten, or the timer was moved
        ended = ctx.timer_service().current_watermark() >= END_OF_INPUT
        yield from self._commit(box, self._machine.on_timer(box.state, END_OF_INPUT if ended else timestamp), ctx)

    def _commit(self, box: Box[Any], step: Step[Any, Any], ctx: Any) -> Iterator[Any]:
        timers = ctx.timer_service()
        if step.state is None:
            self._box.clear()
        else:
            if step.timer_at_ms != box.timer_at_ms and step.timer_at_ms is not None:
                timers.register_event_time_timer(step.timer_at_ms)
            self._box.update(Box(box.codec, step.state, step.timer_at_ms))
        if box.timer_at_ms is not None and (step.state is None or step.timer_at_ms != box.timer_at_ms):
            timers.delete_event_time_timer(box.timer_at_ms)
        self._counters.add(step.counts)
        yield from self._router.route(step.outputs)


_KEYED_TYPE: Final = Types.ROW([Types.STRING(), EVENT_TYPE])


def _keyed(streams: Sequence[DataStream]) -> KeyedStream:
    """What `key_by` makes of the union of these streams, the Python step that adds the key before the union.

    There it is chained to what made the event; PyFlink puts it behind, and each event goes to the workers and back.
    """
    jvm = get_gateway().jvm
    name = jvm.org.apache.flink.python.util.PythonConfigUtil.STREAM_KEY_BY_MAP_OPERATOR_NAME
    first, *more = (stream.map(_with_key, output_type=_KEYED_TYPE).name(name) for stream in streams)
    joined = first.union(*more) if more else first
    by_key = joined._j_data_stream.keyBy(jvm.KeyByKeySelector(), Types.ROW([Types.STRING()]).get_java_type_info())
    return KeyedStream(by_key, EVENT_TYPE, joined)


def _with_key(row: Row) -> Row:
    return Row(row[0], row)


def _feeds(stage: Stage, later: Stage) -> bool:
    return any(issubclass(given, later.takes) for given in stage.gives)


def wire(
    folded: Mapping[SignalType, DataStream], stages: Sequence[Stage], sinks: Sequence[SinkRows]
) -> dict[str, list[DataStream]]:
    """Draws the stages behind the folds, where something drives them. Returns the streams of each sink by its name."""
    inputs: dict[str, list[DataStream]] = {stage.uid: [] for stage in stages}
    rows: dict[str, list[DataStream]] = {sink.name: [] for sink in sinks}
    for signal, stream in folded.items():
        for stage in stages:
            if stage.signal == signal:
                inputs[stage.uid].append(stream.get_side_output(event_tag(stage)))
        for sink in sinks:
            if sink.takes is DeadLetter:
                rows[sink.name].append(stream.get_side_output(sink.tag))
    for place, stage in enumerate(stages):
        if not inputs[stage.uid]:
            continue
        downstream = [
            later for later in stages[place + 1 :] if any(issubclass(given, later.takes) for given in stage.gives)
        ]
        taking = [sink for sink in sinks if sink.takes in stage.gives]
        stream = (
            _keyed(inputs[stage.uid])
            .process(KeyedMachine(stage, downstream, taking), output_type=EVENT_TYPE)
            .name(stage.uid)
            .uid(stage.uid)
        )
        for later in downstream:
            inputs[later.uid].append(stream.get_side_output(event_tag(later)))
        for sink in taking:
            rows[sink.name].append(stream.get_side_output(sink.tag))
    return rows
