"""RequestShapes: a line that stopped coming, a call that is no longer made or made too often, seen against requests.

Driven by `ShapePartial` of traces and of logs; puts out `InsightRevision`, about lines as `LogsHeard`. What is missing
can only be told of a pane to which nothing more can come: panes are judged when they are final, once, and nothing is
ever retracted. State: panes that are not final, what is usual, the running episodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from operators.emission import FrontierConfig, TwoFrontiers
from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.log_silence import LogsHeard
from state_schemas.aggregates.requests import ShapePane, ShapePartial
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.contracts.insight import Insight, InsightRevision, from_json
from state_schemas.state.requests import SHAPES_CODEC, ShapesLearnt, ShapesState
from udfs.detect.requests.counts import merge_shape_panes
from udfs.detect.requests.rule import PaneOfShapes, ShapeConfig, expire_shapes, watch_shapes
from udfs.insights.ids import service_key, split_service_key

Output = LogsHeard | InsightRevision


@dataclass(frozen=True, slots=True)
class RequestShapesConfig:
    """idle_ms: a key without requests for so long is forgotten."""

    rule: ShapeConfig = field(default_factory=ShapeConfig)
    frontier: FrontierConfig = field(default_factory=FrontierConfig)
    idle_ms: int = 8 * 24 * 3_600_000

    @property
    def meaning(self) -> str:
        """The parameters that state depends on: under others it cannot be continued."""
        return f"pane_ms={self.frontier.pane_ms} shapes=1"


class RequestShapes:
    """See the module. One state for each (env, service): SHAPES_MAX shapes, and UNKNOWN_MAX more a waiting pane."""

    def __init__(self, config: RequestShapesConfig) -> None:
        self.config = config
        final = replace(config.frontier, announce="final")
        self._frontiers: TwoFrontiers[ShapesLearnt, ShapePane] = TwoFrontiers(final, lambda pane: len(pane.shapes))

    @property
    def codec(self) -> Codec[ShapesState]:
        return SHAPES_CODEC

    def initial(self, key: str) -> ShapesState:
        env, service = split_service_key(key)
        return ShapesState(self.config.meaning, env, service)

    def on_event(self, state: ShapesState, event: ShapePartial, watermark_ms: int) -> Step[ShapesState, Output]:
        counts: list[tuple[MetricName, int]] = []
        if state.meaning != self.config.meaning:
            state = self.initial(service_key(event.env, event.service))
            counts.append(("states_reset_total", 1))
        frontier, behind = self.config.frontier, 0
        known = frozenset(state.learnt.rates.names)
        for start_ms, pane in event.panes:
            if frontier.is_final(start_ms, watermark_ms, state.learnt.last_end_ms):
                behind += sum(pane.requests.values()) + sum(pane.shapes.values())
                continue
            state.panes[start_ms] = merge_shape_panes(state.panes.get(start_ms, ShapePane()), pane, known, start_ms)
            state.last_seen_ms = max(state.last_seen_ms, start_ms + frontier.pane_ms)
        counts.append(("records_behind_total", behind))
        return Step(state, (), self._next_wake_ms(state, watermark_ms), tuple(counts))

    def on_wake(self, state: ShapesState, now_ms: int) -> Step[ShapesState, Output]:
        state.learnt, out = self._frontiers.advance(
            service_key(state.env, state.service),
            _Evaluator(state.env, state.service, self.config),
            state.learnt,
            state.panes,
            state.announced,
            now_ms,
        )
        if now_ms == END_OF_INPUT or (not state.panes and now_ms >= self._forget_ms(state)):
            if now_ms != END_OF_INPUT:
                gone = expire_shapes(state.learnt, state.env, state.service)
                out += self._frontiers.conclude(state.announced, gone)
            counts: tuple[tuple[MetricName, int], ...] = (
                ("insights_emitted_total", len(out)),
                ("states_forgotten_total", 1),
            )
            return Step(None, _told(out), None, counts)
        return Step(state, _told(out), self._next_wake_ms(state, now_ms), (("insights_emitted_total", len(out)),))

    def _next_wake_ms(self, state: ShapesState, now_ms: int) -> int:
        final_ms = min((self.config.frontier.final_ms(start_ms) for start_ms in state.panes), default=None)
        return max(now_ms + 1, self._forget_ms(state) if final_ms is None else final_ms)

    def _forget_ms(self, state: ShapesState) -> int:
        return self.config.frontier.forget_ms(state.last_seen_ms, self.config.idle_ms)


def _told(revisions: tuple[InsightRevision, ...]) -> tuple[Output, ...]:
    """Those of missing lines by way of `LogSilence`."""
    out: list[Output] = []
    for revision in revisions:
        insight = from_json(revision.body)
        is_line = insight.kind == "pattern_missing"
        out.append(LogsHeard(insight.env, (), insight.window.end_ms, revision) if is_line else revision)
    return tuple(out)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """One pane against what is usual."""

    env: str
    service: str
    config: RequestShapesConfig

    def __call__(self, learnt: ShapesLearnt, start_ms: int, pane: ShapePane) -> tuple[ShapesLearnt, Iterator[Insight]]:
        end_ms = start_ms + self.config.frontier.pane_ms
        drafts: list[Insight] = []
        if self.config.frontier.is_forgotten(learnt.last_end_ms, start_ms, self.config.idle_ms):
            drafts += expire_shapes(learnt, self.env, self.service)
            learnt = ShapesLearnt()
        now = PaneOfShapes(self.env, self.service, start_ms, end_ms, pane)
        learnt, more = watch_shapes(learnt, now, self.config.rule)
        return learnt, iter((*drafts, *more))
