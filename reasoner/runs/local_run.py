"""Recordings through the shipped graph in this process: messages in, all outputs of the graph out."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from jobs.graph import GraphConfig, stages
from jobs.sinks import SHIPPED, rows_of
from operators.ingest.fold import FOLDS
from operators.machine import Stage
from operators.runtime.local import LocalGraph, unchanged
from operators.runtime.routing import Sink
from reasoner.recordings.message import Message
from state_schemas.contracts.settings import Topics
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.signals import SIGNALS, SignalType

OUT_OF_ORDER_MS: Final = 5_000  # as in the watermark of the job's sources
TOPICS: Final[dict[SignalType, str]] = {signal: getattr(Topics(), signal) for signal in SIGNALS}

StagesOf = Callable[[GraphConfig], Sequence[Stage]]


@dataclass
class LocalRun:
    """The graph with its folds. Offsets count up for each partition as in Kafka; a message without one goes to 0.

    stages_of: returns the stages from their settings, those of the shipped job by default. taps: further types of
    outputs that are yielded, although a stage takes them. out_of_order_ms: between what messages reach and event time.
    """

    config: GraphConfig
    counts: Counter[str] = field(default_factory=Counter)
    # Of each partition the offset behind the last message, and so how many were read.
    offsets: Counter[tuple[SignalType, int]] = field(default_factory=Counter)
    stages_of: StagesOf = stages
    taps: tuple[type, ...] = ()
    out_of_order_ms: int = OUT_OF_ORDER_MS

    def run(self, messages: Iterable[Message]) -> Iterator[Any]:
        """Yield outputs in the order in which they leave the graph: dead letters, roll-up rows, insight revisions."""
        sinks = (*rows_of(SHIPPED), *(Sink(tap.__name__, tap) for tap in self.taps))
        graph = LocalGraph(self.stages_of(self.config), unchanged, sinks)
        folds = {signal: FOLDS[signal](self.config.fold) for signal in TOPICS}
        watermark_ms: int | None = None
        for message in messages:
            partition = message.partition or 0
            offset = self.offsets[message.topic_kind, partition]
            self.offsets[message.topic_kind, partition] += 1
            at = KafkaPosition(TOPICS[message.topic_kind], partition, offset, message.timestamp_ms)
            folded = folds[message.topic_kind].fold(message.value, at)
            self.counts.update(dict(folded.counts))
            yield from folded.dead_letters
            if folded.message is not None:
                yield from graph.feed((folded.message,))
            newest_ms = message.timestamp_ms if message.reached_ms is None else message.reached_ms
            reached_ms = newest_ms - self.out_of_order_ms
            if watermark_ms is None or reached_ms > watermark_ms:
                watermark_ms = reached_ms
                yield from graph.advance(watermark_ms)
        yield from graph.finish()
        self.counts.update(graph.counts)
