"""The graph on Flink: the steps of `operators.runtime.flink`, connected by side outputs and broadcast rules."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pyflink.common import Types
from pyflink.datastream import BroadcastStream, DataStream, KeyedStream, OutputTag
from pyflink.java_gateway import get_gateway

from operators.machine import Stage
from operators.runtime.flink import (
    EVENT_TYPE,
    RULES_STATE,
    RULES_TAG,
    FoldMessages,
    FoldWithRules,
    KeyedMachine,
    MachineWithRules,
    Reader,
    ReadInsights,
    ReadRules,
    event_tag,
    sink_tag,
)
from operators.runtime.routing import SinkRows, fold_uid, routes
from state_schemas.aggregates.published_rules import RuleRecord, TopicAtStart
from state_schemas.telemetry.signals import SignalType


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


@dataclass(frozen=True, slots=True)
class _Rules:
    """Rules that are broadcast. at_start: those with which each step begins."""

    stream: BroadcastStream
    at_start: TopicAtStart


def _processed(stream: DataStream | KeyedStream, step: FoldMessages | KeyedMachine, rules: _Rules | None) -> DataStream:
    """Add a step, connected with the rules where it has any."""
    if rules is None or not step.is_ruled:
        return stream.process(step, EVENT_TYPE)
    kind = FoldWithRules if isinstance(step, FoldMessages) else MachineWithRules
    return stream.connect(rules.stream).process(kind(step, rules.at_start), EVENT_TYPE)


@dataclass(frozen=True, slots=True)
class Sources:
    """Inputs of the graph.

    - messages: for each signal the fold with the rows that it takes.
    - rules: reads the rules topic, with the rows that it takes.
    - insights: reads insights of another job, with the rows that it takes.
    """

    messages: Mapping[SignalType, tuple[FoldMessages, DataStream]]
    rules: tuple[ReadRules, DataStream] | None = None
    insights: tuple[ReadInsights, DataStream] | None = None


def wire(
    sources: Sources, stages: Sequence[Stage], sinks: Sequence[SinkRows], unused: Collection[type] = ()
) -> dict[str, list[DataStream]]:
    """Add the folds and every stage that has an input, and return the streams of each sink by its name.

    Raises BadGraph where an output would be lost; unused: types of outputs that are dropped on purpose.
    """
    table = routes(stages, sinks, unused)
    inputs: dict[str, list[DataStream]] = {stage.uid: [] for stage in stages}
    rows: dict[str, list[DataStream]] = {sink.name: [] for sink in sinks}

    def join(uid: str, stream: DataStream) -> None:
        for later in table.stages_after(uid):
            inputs[later.uid].append(_side_output(stream, event_tag(later)))
        for sink in table.sinks_after(uid):
            rows[sink.name].append(_side_output(stream, sink_tag(sink)))

    def enter(reader: Reader, rows_read: DataStream) -> None:
        read = rows_read.process(reader, EVENT_TYPE).name(reader.uid).uid(reader.uid)
        for stage in reader.takers:
            inputs[stage.uid].append(_side_output(read, event_tag(stage)))

    def add(stage: Stage, rules: _Rules | None = None) -> DataStream:
        machine = KeyedMachine(stage, table.stages_after(stage.uid), table.sinks_after(stage.uid), unused)
        stream = _processed(_keyed(inputs[stage.uid]), machine, rules).name(stage.uid).uid(stage.uid)
        join(stage.uid, stream)
        return stream

    rules: _Rules | None = None
    book = next((stage for stage in stages if RuleRecord in stage.machine.takes), None)
    if book is not None:
        assert sources.rules is not None, f"{book.uid} has no source of records"
        enter(*sources.rules)
        rules = _Rules(_side_output(add(book), RULES_TAG).broadcast(RULES_STATE), sources.rules[0].at_start)
    for signal, (fold, messages) in sources.messages.items():
        uid = fold_uid(signal)
        join(uid, _processed(messages, fold, rules).name(uid).uid(uid))
    if sources.insights is not None:
        enter(*sources.insights)
    for stage in stages:
        if stage is not book and inputs[stage.uid]:
            add(stage, rules)
    return rows
