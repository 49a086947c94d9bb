"""TelemetryGap: a service, a signal type or a whole environment that used to be heard is silent.

Driven by `EnvPresence`; puts out `InsightRevision`. Silence is only ever concluded from somebody else's records: a pane
in which nobody of the environment was heard says nothing until it is followed by one in which somebody was.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

from operators.emission import FrontierConfig, TwoFrontiers, next_frontier_ms
from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.activity import EnvPresence
from state_schemas.codec import Codec
from state_schemas.contracts.insight import Evidence, Insight, InsightRevision, Status, Window
from state_schemas.state.telemetry_gap import GAP_CODEC, GapLearnt, GapPane, GapState, Heard
from state_schemas.telemetry.message import OffsetRange
from udfs.activity import merge_ranges
from udfs.insights.ids import insight_id
from udfs.insights.wording import clock, kafka_ranges, title_of

EVERYBODY: Final = ""  # service of a gap that concerns a whole signal type or environment


@dataclass(frozen=True, slots=True)
class GapConfig:
    """When silence is a gap.

    Of an environment or a signal type: longer than silence_ms and than silence_ratio times the longest silence so far,
    once it was heard in signal_warm_panes. Of a service, once it was heard in service_warm_panes: counted in *ticks*,
    panes in which somebody else of its signal type was heard; at least silent_ticks_min, twice the longest silence so
    far, and so many that a service heard in its usual share p of ticks would be silent with a probability under
    exp(-silent_nats) ~ exp(-p * ticks).
    """

    frontier: FrontierConfig = field(default_factory=FrontierConfig)
    silence_ms: int = 120_000
    silence_ratio: float = 6.0
    signal_warm_panes: int = 12
    service_warm_panes: int = 30
    silent_ticks_min: int = 12
    silent_nats: float = 14.0
    idle_ms: int = 24 * 3_600_000


class TelemetryGap:
    """See the module. One state for each environment; as many entries as pre-merge lets through names."""

    def __init__(self, config: GapConfig) -> None:
        self.config = config
        self._frontiers: TwoFrontiers[GapLearnt, GapPane] = TwoFrontiers(config.frontier, lambda pane: len(pane.seen))

    @property
    def codec(self) -> Codec[GapState]:
        return GAP_CODEC

    def initial(self, key: str) -> GapState:
        return GapState(key)

    def on_event(self, state: GapState, event: EnvPresence, watermark_ms: int) -> Step[GapState, InsightRevision]:
        frontier, behind = self.config.frontier, 0
        for news in event.panes:
            judged_until_ms = state.learnt.env.last_ms + frontier.pane_ms if state.learnt.env else 0
            if frontier.is_final(news.start_ms, watermark_ms, judged_until_ms):
                behind += sum(heard.records for heard in news.seen)
                continue
            before = state.panes.get(news.start_ms, GapPane())
            seen = dict(before.seen)
            for heard in news.seen:
                who = f"{heard.signal}|{heard.service}"
                seen[who] = seen.get(who, 0) + heard.records
            state.panes[news.start_ms] = GapPane(seen, merge_ranges((*before.ranges, *news.ranges)))
            state.last_seen_ms = max(state.last_seen_ms, news.start_ms)
        return Step(state, (), self._next_wake_ms(state, watermark_ms), (("records_behind_total", behind),))

    def on_wake(self, state: GapState, now_ms: int) -> Step[GapState, InsightRevision]:
        evaluator = _Evaluator(state.env, self.config)
        state.learnt, out = self._frontiers.advance(
            state.env, evaluator, state.learnt, state.panes, state.announced, now_ms
        )
        over = not state.panes and now_ms >= self._forget_ms(state)
        if now_ms == END_OF_INPUT or over:
            return Step(None, out, None, (("states_forgotten_total", 1),))
        return Step(state, out, self._next_wake_ms(state, now_ms), (("insights_emitted_total", len(out)),))

    def _next_wake_ms(self, state: GapState, now_ms: int) -> int:
        frontier = next_frontier_ms(self.config.frontier, state.panes, now_ms)
        forget_ms = self._forget_ms(state)
        return max(now_ms + 1, forget_ms if frontier is None else min(frontier, forget_ms))

    def _forget_ms(self, state: GapState) -> int:
        return self.config.frontier.forget_ms(state.last_seen_ms, self.config.idle_ms)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """One pane of presence against who is usually there."""

    env: str
    config: GapConfig

    def __call__(self, learnt: GapLearnt, start_ms: int, pane: GapPane) -> tuple[GapLearnt, list[Insight]]:
        after = deepcopy(learnt)
        return after, list(self._insights(after, start_ms, pane))

    def _insights(self, learnt: GapLearnt, start_ms: int, pane: GapPane) -> Iterator[Insight]:
        if learnt.env is not None and self._is_long(learnt.env, start_ms):
            yield self._insight("", EVERYBODY, self._since(learnt.env), start_ms, "closed", pane.ranges)
            for heard in learnt.signals.values():
                heard.last_ms = max(heard.last_ms, start_ms - self.config.frontier.pane_ms)  # that was everybody's gap
            learnt.env.last_ms = start_ms - self.config.frontier.pane_ms
        present = {_split(key)[0] for key in pane.seen}
        yield from self._signals(learnt, start_ms, pane, present)
        for signal in present:
            learnt.ticks[signal] = learnt.ticks.get(signal, 0) + 1
        yield from self._services(learnt, start_ms, pane, present)
        self._learn(learnt, start_ms, pane, present)
        yield from self._forgotten(learnt, start_ms, pane)

    def _signals(self, learnt: GapLearnt, start_ms: int, pane: GapPane, present: set[str]) -> Iterator[Insight]:
        for signal, heard in sorted(learnt.signals.items()):
            if signal in present and heard.gap_since_ms:
                yield self._insight(signal, EVERYBODY, heard.gap_since_ms, start_ms, "closed", pane.ranges)
                heard.gap_since_ms = 0
                heard.last_ms = start_ms  # an announced gap is no measure of usual silence
            elif signal not in present and not heard.gap_since_ms and self._is_long(heard, start_ms):
                heard.gap_since_ms = self._since(heard)
                until_ms = start_ms + self.config.frontier.pane_ms
                yield self._insight(signal, EVERYBODY, heard.gap_since_ms, until_ms, "open", pane.ranges)

    def _services(self, learnt: GapLearnt, start_ms: int, pane: GapPane, present: set[str]) -> Iterator[Insight]:
        for key, heard in sorted(learnt.services.items()):
            signal, service = _split(key)
            tick = learnt.ticks.get(signal, 0)
            if key in pane.seen and heard.gap_since_ms:
                yield self._insight(signal, service, heard.gap_since_ms, start_ms, "closed", pane.ranges)
                heard.gap_since_ms = 0
                heard.last_tick = tick
            elif signal in present and key not in pane.seen and not heard.gap_since_ms and self._is_gone(heard, tick):
                heard.gap_since_ms = self._since(heard)
                until_ms = start_ms + self.config.frontier.pane_ms
                yield self._insight(signal, service, heard.gap_since_ms, until_ms, "open", pane.ranges)

    def _is_long(self, heard: Heard, now_ms: int) -> bool:
        limit_ms = max(self.config.silence_ms, self.config.silence_ratio * heard.silence_ms_max)
        return heard.panes >= self.config.signal_warm_panes and now_ms - self._since(heard) >= limit_ms

    def _is_gone(self, heard: Heard, tick: int) -> bool:
        silent = tick - heard.last_tick
        usual_share = heard.panes / max(1, heard.last_tick - heard.first_tick + 1)
        known = heard.panes >= self.config.service_warm_panes
        return (
            known
            and silent >= max(self.config.silent_ticks_min, 2 * heard.silent_ticks_max)
            and silent * usual_share >= self.config.silent_nats
        )

    def _since(self, heard: Heard) -> int:
        return heard.last_ms + self.config.frontier.pane_ms

    def _learn(self, learnt: GapLearnt, start_ms: int, pane: GapPane, present: set[str]) -> None:
        learnt.env = learnt.env or Heard(start_ms)
        self._hear(learnt.env, start_ms, 0)
        for signal in present:
            self._hear(learnt.signals.setdefault(signal, Heard(start_ms)), start_ms, 0)
        for key in pane.seen:
            tick = learnt.ticks[_split(key)[0]]
            self._hear(learnt.services.setdefault(key, Heard(start_ms, tick, tick)), start_ms, tick)

    def _forgotten(self, learnt: GapLearnt, start_ms: int, pane: GapPane) -> Iterator[Insight]:
        """Services silent for idle_ms are expected no more, and the gaps of theirs end: names with a deploy id do."""
        gone = sorted(key for key, heard in learnt.services.items() if start_ms - heard.last_ms > self.config.idle_ms)
        for key in gone:
            heard = learnt.services.pop(key)
            if heard.gap_since_ms:
                gap = self._insight(*_split(key), heard.gap_since_ms, start_ms, "closed", pane.ranges)
                yield gap.model_copy(update={"reason": "silent for so long that it is no longer expected"})

    def _hear(self, heard: Heard, start_ms: int, tick: int) -> None:
        heard.silence_ms_max = max(heard.silence_ms_max, start_ms - self._since(heard))
        heard.silent_ticks_max = max(heard.silent_ticks_max, tick - heard.last_tick - 1)
        heard.last_ms, heard.last_tick = start_ms, tick
        heard.panes += 1

    def _insight(
        self, signal: str, service: str, since_ms: int, until_ms: int, status: Status, ranges: tuple[OffsetRange, ...]
    ) -> Insight:
        who = " of ".join(part for part in (signal or "all telemetry", service or self.env) if part)
        verb = "missing" if status == "open" else f"missing until {clock(until_ms)}"
        usual = f"{signal or 'telemetry'} of {service or 'this environment'}, last seen before {clock(since_ms)}"
        return Insight(
            insight_id=insight_id("telemetry_gap", self.env, service, signal, since_ms),
            revision=0,
            status=status,
            kind="telemetry_gap",
            env=self.env,
            service=service,
            subject=signal,
            window=Window(start_ms=since_ms, end_ms=until_ms),
            severity="info" if status == "closed" else "warning",
            confidence=0.9,
            title=title_of(f"{who} {verb} since {clock(since_ms)}" if status == "open" else f"{who} {verb}"),
            reason="heard again" if status == "closed" else "",
            measures={"silence_s": (until_ms - since_ms) / 1000},
            evidence=Evidence(kafka=kafka_ranges(ranges), expected=usual),
        )


def _split(key: str) -> tuple[str, str]:
    signal, _, service = key.partition("|")
    return signal, service
