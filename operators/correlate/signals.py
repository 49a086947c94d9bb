"""RuleSignals: pass on what fulfils a step of a rule to the bucket of its subject, and the time to all buckets.

Time is a window in which the environment had telemetry. For rules that ask which service calls which, edges are passed
on to the bucket of the environment. Events are `Insight`, `EnvActivity` and `EdgeRow`. State of an environment: the
windows, the insights and the edges that were passed on.
"""

from collections.abc import Sequence
from typing import Final, Self

from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.activity import EnvActivity
from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.published_rules import PublishedRule
from state_schemas.aggregates.rule_signals import (
    RuleClock,
    RuleEdge,
    RuleSignalBatch,
    ServiceEdge,
)
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import RESOLUTIONS_S, EdgeRow
from state_schemas.state.sequences import SIGNALS_CODEC, SentSignal, SignalsState
from state_schemas.telemetry.resource import ServiceName
from udfs.rules.compiled import RuleIndex
from udfs.rules.service_graph import EDGE_KEPT_MS, is_passed_on
from udfs.rules.signals import CONCLUSIONS, insight_signals, withdrawn_signals
from udfs.rules.subjects import BUCKETS, bucket_of
from udfs.rules.windows import batches

Event = Insight | EnvActivity | EdgeRow
Output = RuleSignalBatch | RuleClock | RuleEdge
Counts = tuple[tuple[MetricName, int], ...]
HOUR_MS: Final = 3_600_000
KEPT_MS: Final = 2 * HOUR_MS  # windows older than this are passed on once more if they come again: no difference
IDLE_MS: Final = 24 * HOUR_MS
SENT_MAX: Final = 20_000  # insights of an environment that are remembered; the oldest are forgotten
EDGES_MAX: Final = 5_000  # of an environment; further ones are no relation, until one has not been seen for a day


class RuleSignals:
    """See the module. One state for each environment."""

    rules = PublishedRule
    gives = (RuleSignalBatch, RuleClock, RuleEdge)
    codec = SIGNALS_CODEC

    def __init__(self, index: RuleIndex, delay_ms: int, *, takes_edges: bool = False) -> None:
        """Prepare the machine. delay_ms: an insight that opens later than this after its beginning is no signal.

        takes_edges: whether rules that come later may ask which service calls which.
        """
        self._index, self._delay_ms, self._takes_edges = index, delay_ms, takes_edges or index.needs_edges
        self.takes = (Insight, EnvActivity, EdgeRow) if self._takes_edges else (Insight, EnvActivity)

    def with_rules(self, changes: Sequence[PublishedRule]) -> Self:
        return type(self)(self._index.updated(changes), self._delay_ms, takes_edges=self._takes_edges)

    def initial(self, key: str) -> SignalsState:
        return SignalsState()

    def on_event(self, state: SignalsState, event: Event, watermark_ms: int) -> Step[SignalsState, Output]:
        if isinstance(event, Insight):
            state.last_seen_ms = max(state.last_seen_ms, event.window.end_ms)
            signals, counts = self._signals(state, event)
            return Step(state, signals, self._timer_ms(state, watermark_ms), counts)
        if isinstance(event, EdgeRow):
            edges, counts = self._edges(state, event)
            return Step(state, edges, self._timer_ms(state, watermark_ms), counts)
        new = tuple(window.start_ms for window in event.windows if window.start_ms not in state.windows)
        state.windows |= dict.fromkeys(new, True)
        state.last_seen_ms = max(state.last_seen_ms, *new) if new else state.last_seen_ms
        clocks = tuple(RuleClock(event.env, bucket, new) for bucket in range(BUCKETS)) if new else ()
        return Step(state, clocks, self._timer_ms(state, watermark_ms))

    def _signals(self, state: SignalsState, insight: Insight) -> tuple[tuple[RuleSignalBatch, ...], Counts]:
        """Return the signals of a revision; the state remembers their subjects, from which later ones withdraw it.

        A revision of an insight that lasts longer than delay_ms changes nothing any more.
        """
        if insight.kind in CONCLUSIONS:
            return (), ()
        before, window = state.sent.get(insight.insight_id), insight.window
        if window.end_ms - window.start_ms > self._delay_ms and insight.status != "retracted":
            opens = before is None and insight.status in ("open", "closed")
            return (), (("rule_signals_late_total", int(opens and any(insight_signals(insight, self._index)))),)
        signals = tuple(insight_signals(insight, self._index))
        subjects = tuple(sorted({signal.subject for signal in signals}))
        gone = set(before.subjects if before else ()).difference(subjects)
        if subjects or before:
            state.sent.pop(insight.insight_id, None)
            state.sent[insight.insight_id] = SentSignal(subjects, window.end_ms)
            if len(state.sent) > SENT_MAX:
                del state.sent[next(iter(state.sent))]
        return tuple(batches(RuleSignalBatch, (*signals, *withdrawn_signals(insight, gone)))), ()

    def _edges(self, state: SignalsState, row: EdgeRow) -> tuple[tuple[RuleEdge, ...], Counts]:
        """Return the edge of a row if it is new, or has not been passed on for a while.

        Calls of a service to itself are no relation, nor are those of services that have no name of their own.
        """
        edge, start_ms = ServiceEdge(*_services(row)), row.window_start_ms
        if row.late or row.resolution_s != RESOLUTIONS_S[0] or edge.caller == edge.callee or OTHER in edge:
            return (), ()
        state.last_seen_ms = max(state.last_seen_ms, start_ms)
        passed_ms = state.edges.get(edge)
        if not is_passed_on(passed_ms, start_ms):
            return (), ()
        if passed_ms is None and len(state.edges) >= EDGES_MAX:
            return (), (("rule_edges_overflowed_total", 1),)
        state.edges[edge] = start_ms
        return (RuleEdge(row.env, bucket_of("env|"), start_ms, edge),), ()

    def on_timer(self, state: SignalsState, now_ms: int) -> Step[SignalsState, Output]:
        if now_ms == END_OF_INPUT or now_ms >= state.last_seen_ms + IDLE_MS:
            return Step(None, counts=(("states_forgotten_total", 1),))
        state.windows = {start_ms: True for start_ms in state.windows if start_ms >= now_ms - KEPT_MS}
        state.edges = {edge: start_ms for edge, start_ms in state.edges.items() if start_ms >= now_ms - EDGE_KEPT_MS}
        kept_ms = now_ms - KEPT_MS - self._delay_ms
        state.sent = {name: sent for name, sent in state.sent.items() if sent.until_ms >= kept_ms}
        return Step(state, (), self._timer_ms(state, now_ms))

    def _timer_ms(self, state: SignalsState, now_ms: int) -> int:
        """Return the next hour, at which what is old is dropped; before it, when the environment is idle."""
        hour_ms = (now_ms // HOUR_MS + 1) * HOUR_MS
        return max(now_ms + 1, min(hour_ms, state.last_seen_ms + IDLE_MS))


def _services(row: EdgeRow) -> tuple[str, str]:
    return str(ServiceName(row.namespace, row.service)), str(ServiceName(row.callee_namespace, row.callee))
