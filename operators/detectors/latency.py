"""Latency detector: roll-ups of a service, and insights of anomalies of its latency and error ratio."""

from collections.abc import Iterator, Sequence
from typing import get_args

import msgspec

from operators.detectors.latency_rows import rollup_rows
from operators.emission import EmissionConfig
from operators.windowed import Counts, WindowedDetector, WindowPart
from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.requests import EffectAggregate
from state_schemas.aggregates.spans import Dimension, SpanAggregate, SpanTable
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import RESOLUTIONS_S, EdgeRow, RollupRow
from state_schemas.state.detector import RollupWindow
from state_schemas.state.latency import LATENCY_CODEC, LatencyModel
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.latency.rule import evaluate_spans, expire
from udfs.detect.requests.counts import effects_of_spans
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.spans.window import entry_table, merge_span_tables, span_count
from udfs.stats.duration_histogram import FINGERPRINT

Output = RollupRow | EdgeRow | EffectAggregate | Insight | DeadLetter


class LatencySpike(WindowedDetector[LatencyModel, SpanTable, SpanAggregate, Output]):
    """Latency detector. One state for each (env, service); `config.names` limits the rows of a window."""

    takes = (SpanAggregate,)
    gives = get_args(Output)
    codec = LATENCY_CODEC
    empty = LatencyModel
    resolutions_s = RESOLUTIONS_S

    def __init__(self, config: SpikeConfig, emission: EmissionConfig) -> None:
        super().__init__(emission, config.idle_ms, FINGERPRINT)
        self.config = config

    def parts(self, event: SpanAggregate, model: LatencyModel) -> Iterator[WindowPart[SpanTable]]:
        return (WindowPart(*window) for window in event.windows)

    def records(self, aggregate: SpanTable) -> int:
        return span_count(aggregate)

    def names(self, aggregate: SpanTable) -> int:
        return len(aggregate.keys)

    def merge(self, start_ms: int, parts: Sequence[SpanTable], model: LatencyModel) -> SpanTable:
        return merge_span_tables(parts, self.config.names)

    def overflow(self, aggregate: SpanTable) -> Counts:
        rows = sum(key.name == OTHER and key.dimension is not Dimension.SERVICE for key in aggregate.keys)
        return (("names_overflowed_total", rows),)

    def rows(
        self, key: ServiceKey, window: RollupWindow, aggregate: SpanTable, model: LatencyModel
    ) -> Iterator[RollupRow | EdgeRow | EffectAggregate]:
        yield from rollup_rows(key, window, aggregate)
        if window.resolution_s == RESOLUTIONS_S[0] and not window.late:
            yield from effects_of_spans(key.env, key.service, window.start_ms, aggregate)

    def watched(self, aggregate: SpanTable) -> SpanTable:
        return entry_table(aggregate)

    def evaluate(self, window: ServiceWindow[SpanTable], model: LatencyModel) -> tuple[LatencyModel, list[Insight]]:
        if not window.table.keys:  # only spans of other kinds: no requests and no calls, so nothing to evaluate
            return msgspec.structs.replace(model, last_end_ms=window.end_ms), []
        return evaluate_spans(model, window, self.config)

    def expire(self, key: ServiceKey, model: LatencyModel) -> list[Insight]:
        return expire(key, model, self.config)
