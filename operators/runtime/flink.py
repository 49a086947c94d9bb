"""The only module that uses Flink: a fold as a process function, and any machine as a keyed process function.

Events travel between steps as rows (key, MessagePack bytes), the form in which PyFlink itself sends a keyed element.
The job runs in the *process* mode of Flink, and this must not change: a savepoint of one mode restores in the other
without an error and without its state.
"""

import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

import msgspec
from pyflink.common import Row, TypeInformation, Types
from pyflink.datastream import DataStream, KeyedProcessFunction, KeyedStream, OutputTag, ProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.java_gateway import get_gateway

from operators.ingest.fold import FOLDS, Fold, FoldConfig
from operators.machine import RuledMachine, Stage, Step
from operators.runtime.routing import BadGraph, SinkRows, Takers, fold_uid, input_of, routes, takers_of, unrouted
from state_schemas.codec import Box
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.tables import ColumnType
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.signals import SignalType

EVENT_TYPE: Final = Types.PRIMITIVE_ARRAY(Types.BYTE())
_KEYED_TYPE: Final = Types.ROW([Types.STRING(), EVENT_TYPE])


_FLINK_TYPES: dict[ColumnType, Callable[[], TypeInformation]] = {
    "string": Types.STRING,
    "int": Types.INT,
    "long": Types.LONG,
    "double": Types.DOUBLE,
    "boolean": Types.BOOLEAN,
    "binary": lambda: Types.PRIMITIVE_ARRAY(Types.BYTE()),
}


def sink_tag(sink: SinkRows) -> OutputTag:
    """Make the side output that feeds a sink."""
    names, types = zip(*sink.columns, strict=True)
    return OutputTag(sink.name, Types.ROW_NAMED(list(names), [_FLINK_TYPES[name]() for name in types]))


def event_tag(stage: Stage) -> OutputTag:
    """Make the side output that feeds a stage."""
    return OutputTag(f"to-{stage.uid}", _KEYED_TYPE)


class _Router:
    """Routes each output to the stages and sinks that take its type. uid: of the step that puts out."""

    def __init__(self, uid: str, takers: Mapping[type, Takers[SinkRows]]) -> None:
        self._uid = uid
        self._ways = {
            given: (
                tuple((event_tag(stage), stage.key.of, _input_mark(stage, given)) for stage in found.stages),
                tuple((sink_tag(sink), sink.to_row) for sink in found.sinks),
            )
            for given, found in takers.items()
        }
        self._encode = msgspec.msgpack.Encoder().encode

    def route(self, outputs: Sequence[Any]) -> Iterator[Any]:
        for output in outputs:
            ways = self._ways.get(type(output))
            assert ways is not None, unrouted(self._uid, output, self._ways)
            stages, sinks = ways
            for tag, key_of, mark in stages:
                yield tag, Row(key_of(output), mark + self._encode(output))
            for tag, to_row in sinks:
                yield tag, Row(*to_row(output))


def _input_mark(stage: Stage, given: type) -> bytes:
    """Make the byte before an event that is the number of its input of the stage; no byte where there is one input."""
    number = input_of(stage, given)
    assert number is not None, f"{stage.uid} does not take {given.__name__}"
    return bytes((number,)) if len(stage.machine.takes) > 1 else b""


def _event_decoder(stage: Stage) -> Callable[[bytes], Any]:
    """Make the decoder of the events that a router sends to a stage."""
    decoders: list[Callable[[Any], Any]] = [msgspec.msgpack.Decoder(takes).decode for takes in stage.machine.takes]
    if len(decoders) == 1:
        return decoders[0]
    return lambda payload: decoders[payload[0]](memoryview(payload)[1:])


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
    """Run the garbage collector rarely: this code makes no cycles, so that a walk over live state frees nothing."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


class FoldMessages(ProcessFunction):
    """Rows (value bytes, partition, offset) with the Kafka timestamp as record timestamp -> side outputs."""

    def __init__(
        self, signal: SignalType, topic: str, config: FoldConfig, stages: Sequence[Stage], dead_letters: SinkRows
    ) -> None:
        assert dead_letters.takes is DeadLetter, f"{dead_letters.name} takes {dead_letters.takes}, not DeadLetter"
        self._fold_class, self._config = FOLDS[signal], config
        self._topic = topic
        self._uid = fold_uid(signal)
        self._takers = takers_of(Fold.gives, stages, (dead_letters,))

    def open(self, runtime_context: RuntimeContext) -> None:
        _calm_garbage_collector()
        # Each subtask has its own fold, which holds scratch memory: subtasks are threads of one worker process.
        self._fold = self._fold_class(self._config)
        self._router = _Router(self._uid, self._takers)
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

    def __init__(
        self, stage: Stage, downstream: Sequence[Stage], sinks: Sequence[SinkRows], unused: Collection[type] = ()
    ) -> None:
        self._stage = stage
        takers = takers_of(stage.machine.gives, downstream, sinks)
        self._takers = {given: found for given, found in takers.items() if found or given in unused}

    def open(self, runtime_context: RuntimeContext) -> None:
        _calm_garbage_collector()
        self._box = runtime_context.get_state(ValueStateDescriptor("box", Types.PICKLED_BYTE_ARRAY()))
        self._machine = self._stage.machine
        self._decode = _event_decoder(self._stage)
        self._router = _Router(self._stage.uid, self._takers)
        self._counters = _Counters(runtime_context)

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        box = self._box.value() or Box(self._machine.codec, self._machine.initial(ctx.get_current_key()), None)
        step = self._machine.on_event(box.state, self._decode(value), ctx.timer_service().current_watermark())
        yield from self._commit(box, step, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        box = self._box.value()
        if box is None or box.timer_at_ms != timestamp:
            return  # forgotten, or the timer was moved
        yield from self._commit(box, self._machine.on_timer(box.state, ctx.timer_service().current_watermark()), ctx)

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


def _side_output(stream: DataStream, tag: OutputTag) -> DataStream:
    """Return a side output without the Python step that copies each row, which PyFlink's `get_side_output` adds.

    Such a step is an operator of its own: each row makes another way to the Python workers and back, and the operator
    takes part in each watermark and checkpoint even if it never has a row.
    """
    return DataStream(stream._j_data_stream.getSideOutput(tag.get_java_output_tag()))


def _keyed(streams: Sequence[DataStream]) -> KeyedStream:
    """Key the union of these streams by the first field, as `key_by` does behind the Python step that adds the key."""
    first, *more = streams
    joined = first.union(*more) if more else first
    selector = get_gateway().jvm.KeyByKeySelector()
    by_key = joined._j_data_stream.keyBy(selector, Types.ROW([Types.STRING()]).get_java_type_info())
    return KeyedStream(by_key, EVENT_TYPE, joined)


def wire(
    folded: Mapping[SignalType, DataStream],
    stages: Sequence[Stage],
    sinks: Sequence[SinkRows],
    unused: Collection[type] = (),
) -> dict[str, list[DataStream]]:
    """Add every stage that has an input behind the folds, and return the streams of each sink by its name.

    Raises BadGraph where an output would be lost; unused: types of outputs that are dropped on purpose.
    """
    table = routes(stages, sinks, unused)
    _refuse_rules(stages)
    inputs: dict[str, list[DataStream]] = {stage.uid: [] for stage in stages}
    rows: dict[str, list[DataStream]] = {sink.name: [] for sink in sinks}

    def join(uid: str, stream: DataStream) -> None:
        for later in table.stages_after(uid):
            inputs[later.uid].append(_side_output(stream, event_tag(later)))
        for sink in table.sinks_after(uid):
            rows[sink.name].append(_side_output(stream, sink_tag(sink)))

    for signal, stream in folded.items():
        join(fold_uid(signal), stream)
    for stage in stages:
        if not inputs[stage.uid]:
            continue
        machine = KeyedMachine(stage, table.stages_after(stage.uid), table.sinks_after(stage.uid), unused)
        stream = _keyed(inputs[stage.uid]).process(machine, output_type=EVENT_TYPE).name(stage.uid).uid(stage.uid)
        join(stage.uid, stream)
    return rows


def _refuse_rules(stages: Sequence[Stage]) -> None:
    """Raise BadGraph where a machine needs a broadcast input, which this engine does not have yet.

    The seam is `_keyed(...).connect(rules.broadcast(...))` with a KeyedBroadcastProcessFunction. PyFlink cannot apply
    rules to all keys at once, so they are applied before the next event or timer of a key, as RuledMachine says.
    """
    if ruled := [stage.uid for stage in stages if isinstance(stage.machine, RuledMachine)]:
        message = f"{', '.join(ruled)}: found a machine with rules, which only the local engine runs; take it out"
        raise BadGraph(message)
