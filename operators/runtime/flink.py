"""The steps of the graph on Flink: a fold as a process function, and any machine as a keyed process function.

Events travel between steps as rows (key, MessagePack bytes), the form in which PyFlink itself sends a keyed element.
The job runs in the *process* mode of Flink, and this must not change: a savepoint of one mode restores in the other
without an error and without its state.
"""

import gc
import resource
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from pyflink.common import Row, TypeInformation, Types
from pyflink.datastream import (
    KeyedProcessFunction,
    OutputTag,
    ProcessFunction,
    RuntimeContext,
)
from pyflink.datastream.functions import BroadcastProcessFunction, KeyedBroadcastProcessFunction
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from operators.ingest.fold import FOLDS, Fold, FoldConfig
from operators.machine import BEGIN_OF_TIME, END_OF_INPUT, RuledMachine, Stage, Step, with_rules
from operators.runtime.routing import RULES, SinkRows, Takers, fold_uid, input_of, takers_of, unrouted
from state_schemas.aggregates.published_rules import PUBLISHED_CODEC, PublishedRule, RuleRecord, TopicAtStart
from state_schemas.codec import Box
from state_schemas.contracts.counters import WORKER_MEMORY, LevelName, MetricName
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.tables import ColumnType
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.signals import SignalType

EVENT_TYPE: Final = Types.PRIMITIVE_ARRAY(Types.BYTE())
_KEYED_TYPE: Final = Types.ROW([Types.STRING(), EVENT_TYPE])
RULES_TAG: Final = OutputTag("rules", _KEYED_TYPE)
# What has changed since the submission, in each subtask: by rule id what `PUBLISHED_CODEC` writes.
RULES_STATE: Final = MapStateDescriptor("rules", Types.STRING(), EVENT_TYPE)


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
                tuple(_way(stage, given) for stage in found.stages if input_of(stage, given) != RULES),
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
            if isinstance(output, PublishedRule):
                yield RULES_TAG, Row(output.rule_id, PUBLISHED_CODEC.encode(output))


def _way(stage: Stage, given: type) -> tuple[OutputTag, Callable[[Any], str], bytes]:
    """Return the side output to a stage, how to make its key, and the mark of its input."""
    return event_tag(stage), stage.key.of, _input_mark(stage, given)


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
    """Flink counters for the closed list of metric names. Flink shows one from its first number on.

    Beam adds a number to the step whose state the thread has entered. PyFlink enters the state of a step for an event
    and none for a timer: without a state the number is lost.
    """

    def __init__(self, context: RuntimeContext) -> None:
        from apache_beam.runners.worker.statesampler import get_current_tracker  # slow, and the worker has it

        self._tracker = get_current_tracker
        group = context.get_metrics_group()
        self._counters = {name: group.counter(name) for name in get_args(MetricName)}
        self._step_state: Any = None
        self._held = Counter[MetricName]()  # of timers before the first event

    def add(self, counts: Sequence[tuple[MetricName, int]]) -> None:
        if not counts and self._step_state is not None:
            return  # most events
        for name, number in counts:
            self._held[name] += number
        state = self._tracker().current_state()
        if state.metrics_container is not None:
            self._step_state, entered = state, nullcontext()
        elif self._step_state is None:
            return
        else:
            entered = self._step_state
        with entered:
            for name, number in self._held.items():
                if number:
                    self._counters[name].inc(number)
        self._held.clear()


class _Levels:
    """Flink gauges of values that keys have, added up over the keys that this subtask has seen since it started."""

    def __init__(self, context: RuntimeContext) -> None:
        self._group = context.get_metrics_group()
        self._by_key: dict[str, dict[str, int]] = {}

    def put(self, key: str, levels: Sequence[tuple[LevelName, int]]) -> None:
        for name, value in levels:
            if name not in self._by_key:
                self._by_key[name] = {}
                self._group.gauge(name, partial(self._sum, name))
            self._by_key[name][key] = value

    def forget(self, key: str) -> None:
        for values in self._by_key.values():
            values.pop(key, None)

    def _sum(self, name: str) -> int:
        return sum(self._by_key[name].values())


def _resident_bytes() -> int:
    """Return the memory of this worker process: Flink's own metrics have the JVM's alone."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


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

    @property
    def is_ruled(self) -> bool:
        return self._fold_class.is_ruled

    def open(self, runtime_context: RuntimeContext) -> None:
        _calm_garbage_collector()
        # Each subtask has its own fold, which holds scratch memory: subtasks are threads of one worker process.
        self._fold = self._fold_class(self._config)
        self._router = _Router(self._uid, self._takers)
        self._counters = _Counters(runtime_context)
        runtime_context.get_metrics_group().gauge(WORKER_MEMORY, _resident_bytes)

    def add_rules(self, changes: Sequence[PublishedRule]) -> None:
        self._fold = self._fold.with_rules(changes)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        data = bytes(value[0]) if value[0] is not None else b""
        folded = self._fold.fold(data, KafkaPosition(self._topic, value[1], value[2], ctx.timestamp()))
        self._counters.add(folded.counts)
        if folded.message is not None:
            yield from self._router.route((folded.message,))
        yield from self._router.route(folded.dead_letters)


def _event_time_ms(ctx: KeyedProcessFunction.Context) -> int:
    """Return the watermark that an event meets.

    An input that was idle can bring one behind END_OF_INPUT: Flink ends event time without idle inputs. Such an event
    waits in the savepoint, for the job that begins from it, whose event time begins anew.
    """
    watermark_ms: int = ctx.timer_service().current_watermark()
    return BEGIN_OF_TIME if watermark_ms == END_OF_INPUT else watermark_ms


class KeyedMachine(KeyedProcessFunction):
    """Runs any machine: state in one value (versioned bytes when Flink writes it), timers as event-time timers."""

    def __init__(
        self, stage: Stage, downstream: Sequence[Stage], sinks: Sequence[SinkRows], unused: Collection[type] = ()
    ) -> None:
        self._stage = stage
        takers = takers_of(stage.machine.gives, downstream, sinks)
        self._takers = {given: found for given, found in takers.items() if found or given in unused}

    @property
    def is_ruled(self) -> bool:
        return isinstance(self._stage.machine, RuledMachine)

    def open(self, runtime_context: RuntimeContext) -> None:
        _calm_garbage_collector()
        self._box = runtime_context.get_state(ValueStateDescriptor("box", Types.PICKLED_BYTE_ARRAY()))
        self._machine = self._stage.machine
        self._decode = _event_decoder(self._stage)
        self._router = _Router(self._stage.uid, self._takers)
        self._counters = _Counters(runtime_context)
        self._levels = _Levels(runtime_context)

    def add_rules(self, changes: Sequence[PublishedRule]) -> None:
        self._stage = with_rules(self._stage, changes)
        self._machine = self._stage.machine

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        box = self._box.value() or Box(self._machine.codec, self._machine.initial(ctx.get_current_key()), None)
        step = self._machine.on_event(box.state, self._decode(value), _event_time_ms(ctx))
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
            self._levels.forget(ctx.get_current_key())
        else:
            if step.timer_at_ms != box.timer_at_ms and step.timer_at_ms is not None:
                timers.register_event_time_timer(step.timer_at_ms)
            self._box.update(Box(box.codec, step.state, step.timer_at_ms))
        if box.timer_at_ms is not None and (step.state is None or step.timer_at_ms != box.timer_at_ms):
            timers.delete_event_time_timer(box.timer_at_ms)
        self._counters.add(step.counts)
        if step.levels:
            self._levels.put(ctx.get_current_key(), step.levels)
        yield from self._router.route(step.outputs)


class _WithRules:
    """Gives a step the rules that are broadcast. After a restore, those of the state come with the first element.

    The rules are kept in memory: each look into broadcast state asks the JVM. Rules of the state that the topic of the
    submission does not have are left out.
    """

    def __init__(self, inner: FoldMessages | KeyedMachine, at_start: TopicAtStart) -> None:
        self._inner = inner
        self._at_start = at_start
        self._known = frozenset(rule.rule_id for rule in at_start.published)
        self._is_restored = False
        # Changes that came since the last element: many are compiled at once.
        self._changes: list[PublishedRule] = []

    def open(self, runtime_context: RuntimeContext) -> None:
        self._inner.open(runtime_context)

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        self._apply(ctx)
        return self._inner.process_element(value, ctx)

    def process_broadcast_element(self, value: Row, ctx: Any) -> Sequence[Any]:
        change, state = PUBLISHED_CODEC.decode(bytes(value[1])), ctx.get_broadcast_state(RULES_STATE)
        if change.versions or change.rule_id in self._known:
            state.put(change.rule_id, bytes(value[1]))  # after a restore the step begins with the rules that are known
        else:
            state.remove(change.rule_id)
        self._changes.append(change)
        return ()

    def _apply(self, ctx: Any) -> None:
        if not self._is_restored:
            self._is_restored = True
            held = ctx.get_broadcast_state(RULES_STATE).items()
            changes = [PUBLISHED_CODEC.decode(bytes(encoded)) for _, encoded in held]
            self._changes = [change for change in changes if self._is_there(change)]
        if self._changes:
            self._inner.add_rules(self._changes)
            self._changes = []

    def _is_there(self, change: PublishedRule) -> bool:
        """Return whether the topic had the rule of a change at the submission, or got it since.

        The topic keeps the mark of a removal for a week: a job that was stopped for longer does not read it.
        """
        is_known = change.rule_id in self._known or change.offset >= self._at_start.end_offset
        return is_known and not change.is_of_another(self._at_start.topic_id)


class FoldWithRules(_WithRules, BroadcastProcessFunction):
    """FoldMessages with the rules of the topic."""


class MachineWithRules(_WithRules, KeyedBroadcastProcessFunction):
    """KeyedMachine with the rules of the topic."""

    _inner: KeyedMachine

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[Any]:
        self._apply(ctx)
        return self._inner.on_timer(timestamp, ctx)


class Reader(ProcessFunction):
    """Reads a topic that is no telemetry, for the stages that take what is in it."""

    uid: str
    # Type of what is read.
    reads: type

    def __init__(self, stages: Sequence[Stage]) -> None:
        takers: dict[type, Takers[SinkRows]] = takers_of((self.reads,), stages, ())
        self._takers = takers

    @property
    def takers(self) -> tuple[Stage, ...]:
        return self._takers[self.reads].stages

    def open(self, runtime_context: RuntimeContext) -> None:
        self._router = _Router(self.uid, self._takers)
        self._counters = _Counters(runtime_context)


class ReadRules(Reader):
    """Rows (key, value, partition, offset, ts, topic) with the Kafka timestamp -> side outputs.

    Records of another topic are left out: a source that goes on from a savepoint reads that of the savepoint too.
    """

    uid, reads = "read-rules", RuleRecord

    def __init__(self, topic: str, at_start: TopicAtStart, stages: Sequence[Stage]) -> None:
        super().__init__(stages)
        self._topic, self.at_start = topic, at_start

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        key, text, partition, offset, _, topic = value
        if topic == self._topic:
            at = KafkaPosition(topic, partition, offset, ctx.timestamp())
            yield from self._router.route((RuleRecord.at(at, key, text, self.at_start.topic_id),))


class ReadInsights(Reader):
    """Rows (value, ...) of the topic of insights -> side outputs. What is no insight v1 is left out, and counted."""

    uid, reads = "read-insights", Insight

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        try:
            insight = from_json(bytes(value[0] or b""))
        except msgspec.MsgspecError:
            self._counters.add((("insights_unreadable_total", 1),))
            return
        yield from self._router.route((insight,))
